//! Made-up tasks that ask for long memory: the adding problem (Hochreiter and Schmidhuber 1997) and copy memory (Arjovsky et al.
//! 2016), as Bai, Kolter and Koltun (2018) set them.

use super::sequences::{Examples, Targets};
use super::stream;
use crate::random::Random;

/// Classes of the copy memory: blank, the digits 1 to 8, and the mark that asks for them.
pub const COPY_CLASSES: usize = 10;

/// Digits to remember.
const DIGITS: usize = 10;

/// Examples of the adding problem from number `first` on: two channels, uniform numbers in [0, 1) and marks, of which two are 1 and
/// all others 0; to tell is the sum of the two marked numbers. An example is a pure function of the seed and its number. Who says
/// 1 has a mean squared error of 0.1767. Nothing if `time` is below 2, or there are no examples.
pub fn adding_problem(seed: u64, first: u32, examples: usize, time: usize, per_step: usize) -> Option<Examples> {
    if time < 2 {
        return None;
    }
    let mut values = Vec::with_capacity(examples.checked_mul(time)?.checked_mul(2)?);
    let mut sums = Vec::with_capacity(examples);
    for example in 0..u32::try_from(examples).ok()? {
        let mut random = Random::new(seed, stream::ADDING, first.checked_add(example)?);
        let one = random.below(time as u32) as usize;
        // Any position but the one that is marked already.
        let other = (one + 1 + random.below(time as u32 - 1) as usize) % time;
        let mut sum = 0.0;
        for position in 0..time {
            let value = random.uniform();
            let marked = position == one || position == other;
            values.extend([value, if marked { 1.0 } else { 0.0 }]);
            sum += if marked { value } else { 0.0 };
        }
        sums.push(sum);
    }
    Examples::new(values, time, 2, Targets::Values { values: sums, each: 1 }, per_step)
}

/// Examples of the copy memory from number `first` on: ten digits from 1 to 8, `blanks − 1` zeros, eleven nines, as numbers in one
/// channel, `blanks + 20` positions in all; to tell are `blanks + 10` zeros and the ten digits. An example is a pure function of
/// the seed and its number. Who always says 0 but for a guess at the digits has a loss of 10 ln 8 / (blanks + 20). Nothing if
/// there are no blanks or no examples.
pub fn copy_memory(seed: u64, first: u32, examples: usize, blanks: usize, per_step: usize) -> Option<Examples> {
    let time = blanks.checked_add(2 * DIGITS)?;
    let between = blanks.checked_sub(1)?;
    let mut values = Vec::with_capacity(examples.checked_mul(time)?);
    let mut classes = Vec::with_capacity(values.capacity());
    for example in 0..u32::try_from(examples).ok()? {
        let mut random = Random::new(seed, stream::COPY, first.checked_add(example)?);
        let digits: Vec<u32> = (0..DIGITS).map(|_| 1 + random.below(8)).collect();
        values.extend(digits.iter().map(|&digit| digit as f32));
        values.extend(std::iter::repeat_n(0.0, between));
        values.extend(std::iter::repeat_n(9.0, DIGITS + 1));
        classes.extend(std::iter::repeat_n(0, blanks + DIGITS));
        classes.extend(digits);
    }
    Examples::new(values, time, 1, Targets::Classes { classes, each: time }, per_step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SequenceBatch, Sequences};

    fn first(examples: &Examples) -> SequenceBatch {
        let mut batch = SequenceBatch::default();
        examples.fill(&[0], &mut batch);
        batch
    }

    #[test]
    fn two_numbers_are_marked_and_their_sum_is_told() {
        let mut places = vec![0; 20];
        let mut squares = 0.0;
        for number in 0..2000 {
            let batch = first(&adding_problem(5, number, 1, 20, 1).unwrap());
            let marked: Vec<usize> = (0..20).filter(|t| batch.values[t * 2 + 1] == 1.0).collect();
            assert_eq!(marked.len(), 2);
            assert!(batch.values.iter().all(|v| (0.0..=1.0).contains(v)));
            let sum: f32 = marked.iter().map(|t| batch.values[t * 2]).sum();
            assert!((batch.target_values[0] - sum).abs() < 1e-6);
            marked.iter().for_each(|&t| places[t] += 1);
            squares += f64::from((sum - 1.0).powi(2)) / 2000.0;
        }
        // 200 are expected at each place, and an error of 1/6 for a constant guess.
        assert!(places.iter().all(|&count| (140..260).contains(&count)), "{places:?}");
        assert!((squares - 1.0 / 6.0).abs() < 0.02, "{squares}");
    }

    #[test]
    fn digits_come_back_after_the_blanks() {
        let batch = first(&copy_memory(5, 3, 1, 7, 1).unwrap());
        assert_eq!((batch.time, batch.count), (27, 27));
        let digits = &batch.values[..10];
        assert!(digits.iter().all(|digit| (1.0..=8.0).contains(digit)));
        assert_eq!(batch.values[10..16], [0.0; 6]);
        assert_eq!(batch.values[16..], [9.0; 11]);
        assert_eq!(batch.target_ids[..17], [0; 17]);
        assert!(batch.target_ids[17..].iter().zip(digits).all(|(&told, &digit)| told as f32 == digit));
        // As the fourth of several.
        let mut several = SequenceBatch::default();
        copy_memory(5, 0, 5, 7, 2).unwrap().fill(&[3], &mut several);
        assert_eq!(several, batch);
    }
}
