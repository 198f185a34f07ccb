//! Losses of models that are hardly models, to judge a trained one against. All are in nats a sample, as the training
//! loss is; knowing nothing costs `ln(classes)`.

use std::collections::HashMap;

use super::DataError;

/// What is added to every count of [`first_order`].
const SMOOTHING: f64 = 0.1;

fn ids<T: Copy + Into<u32>>(sequence: &[T], classes: usize) -> Result<Vec<u32>, DataError> {
    let check = |(index, &class): (usize, &T)| match class.into() {
        class if (class as usize) < classes => Ok(class),
        class => Err(DataError::ClassOutOfRange { class, index, classes }),
    };
    sequence.iter().enumerate().map(check).collect()
}

/// The entropy of the class histogram of `valid`: the loss of the best model that ignores all that came before.
///
/// # Errors
/// [`DataError::TooFewSamples`] if `valid` is empty, [`DataError::ClassOutOfRange`].
pub fn class_entropy<T: Copy + Into<u32>>(valid: &[T], classes: usize) -> Result<f64, DataError> {
    if valid.is_empty() {
        return Err(DataError::TooFewSamples { what: "the class entropy", needed: 1, found: 0 });
    }
    let mut counts = vec![0u64; classes];
    for class in ids(valid, classes)? {
        counts[class as usize] += 1;
    }
    let total = valid.len() as f64;
    let term = |&count: &u64| count as f64 / total * (total / count as f64).ln();
    Ok(counts.iter().filter(|&&count| count > 0).map(term).sum())
}

/// The cross-entropy on `valid` of a first-order Markov model fitted to `train`: the next class given the class before,
/// `(count(a, b) + α) / (count(a) + α · classes)` with α = 0.1. A trained network must be well below.
///
/// # Errors
/// [`DataError::TooFewSamples`] if either sequence has fewer than two samples, [`DataError::ClassOutOfRange`].
pub fn first_order<T: Copy + Into<u32>>(train: &[T], valid: &[T], classes: usize) -> Result<f64, DataError> {
    for (what, sequence) in [("the training set of a first-order model", train), ("its validation set", valid)] {
        if sequence.len() < 2 {
            return Err(DataError::TooFewSamples { what, needed: 2, found: sequence.len() });
        }
    }
    let (train, valid) = (ids(train, classes)?, ids(valid, classes)?);
    let mut before = vec![0u64; classes];
    let mut pairs: HashMap<(u32, u32), u64> = HashMap::new();
    for pair in train.windows(2) {
        before[pair[0] as usize] += 1;
        *pairs.entry((pair[0], pair[1])).or_default() += 1;
    }
    let loss = |pair: &[u32]| {
        let count = pairs.get(&(pair[0], pair[1])).copied().unwrap_or(0) as f64;
        let probability = (count + SMOOTHING) / (before[pair[0] as usize] as f64 + SMOOTHING * classes as f64);
        -probability.ln()
    };
    Ok(valid.windows(2).map(loss).sum::<f64>() / (valid.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_of_known_histograms() {
        let uniform: Vec<u32> = (0..256).collect();
        assert!((class_entropy(&uniform, 256).unwrap() - 256f64.ln()).abs() < 1e-12);
        assert_eq!(class_entropy(&[3u16; 100], 256).unwrap(), 0.0);
        // 1/2 ln 2 + 2 · 1/4 ln 4 = 1.5 ln 2
        assert!((class_entropy(&[0u32, 0, 1, 2], 4).unwrap() - 1.5 * 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_first_order_model_by_hand() {
        // Pairs of the training set: 01, 10, 01, 11. After 0 always 1 (2 times); after 1: 0 once, 1 once.
        let train = [0u32, 1, 0, 1, 1];
        // Pairs of the validation set: 01, 11, 12, 20; nothing was ever seen after 2.
        let valid = [0u32, 1, 1, 2, 0];
        let probabilities = [2.1 / 2.3, 1.1 / 2.3, 0.1 / 2.3, 1.0 / 3.0];
        let expected = -probabilities.iter().map(|p: &f64| p.ln()).sum::<f64>() / 4.0;
        assert!((first_order(&train, &valid, 3).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn what_follows_with_certainty_costs_almost_nothing() {
        let cycle: Vec<u16> = (0..60_000).map(|i| i % 16).collect();
        assert!(first_order(&cycle, &cycle[..1000], 16).unwrap() < 1e-3);
        assert!((class_entropy(&cycle, 16).unwrap() - 16f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn input_out_of_range_is_an_error() {
        assert!(matches!(class_entropy::<u32>(&[], 4), Err(DataError::TooFewSamples { .. })));
        assert!(matches!(class_entropy(&[0u32, 4], 4), Err(DataError::ClassOutOfRange { class: 4, index: 1, .. })));
        assert!(matches!(first_order(&[0u32], &[0, 1], 4), Err(DataError::TooFewSamples { found: 1, .. })));
        assert!(matches!(first_order(&[0u32, 1], &[0, 9], 4), Err(DataError::ClassOutOfRange { class: 9, .. })));
    }
}
