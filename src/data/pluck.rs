//! The built-in clip, for when there are no recordings at hand: plucked strings playing a small seeded melody.
//!
//! A string is the algorithm of Karplus and Strong ("Digital synthesis of plucked-string and drum timbres", Computer
//! Music Journal 7(2), 1983): a burst of noise runs round a delay line, and each time round two neighbours are
//! averaged. It is tuned by an all-pass filter in the loop (Jaffe and Smith, "Extensions of the Karplus-Strong
//! plucked-string algorithm", same issue). Only additions, multiplications and divisions occur, so that every platform
//! makes the same samples.

use super::{Clip, DataError, stream};
use crate::random::Random;

/// C3 in hertz, twelve-tone equal temperament, A4 = 440 Hz.
const ROOT: f64 = 130.812_782_650_299_3;
/// 2^(1/12).
const SEMITONE: f64 = 1.059_463_094_359_295_3;
/// The loudest sample.
const PEAK: f64 = 0.85;
const SECONDS_PER_NOTE: f64 = 0.28;
const NOTES_PER_BAR: usize = 8;
/// How long a string rings before it is faded out, and over how long, in seconds.
const RING: f64 = 2.4;
const FADE: f64 = 0.2;
/// Time for a string to decay by 60 dB, in seconds; the averaging makes high notes decay faster still.
const DECAY: f64 = 5.0;
/// Time from one string of a strummed chord to the next, in seconds.
const STRUM: f64 = 0.018;

/// Chords out of the pentatonic scale C D E G A, in semitones above [`ROOT`], low to high.
const CHORDS: [[i32; 6]; 4] =
    [[0, 7, 12, 16, 19, 24], [-3, 4, 9, 12, 16, 21], [-5, 2, 7, 14, 19, 21], [2, 9, 14, 19, 21, 26]];

/// The order in which an arpeggio goes through the six notes of a chord.
const PATTERNS: [[usize; NOTES_PER_BAR]; 5] = [
    [0, 1, 2, 3, 4, 5, 4, 3],
    [0, 3, 1, 4, 2, 5, 3, 4],
    [0, 5, 4, 3, 2, 3, 4, 5],
    [0, 2, 4, 2, 5, 4, 2, 3],
    [0, 4, 3, 5, 1, 4, 3, 2],
];

/// Plucked strings: pentatonic arpeggios with a strummed chord every fourth bar, the same for the same seed on every
/// platform. The loudest sample is ±0.85.
///
/// # Errors
/// [`DataError::Option`] unless `seconds` is above 0 and at most 3600, [`DataError::SampleRate`] unless `rate` is in
/// 2000..=192000.
pub fn plucked_strings(seconds: f64, rate: u32, seed: u64) -> Result<Clip, DataError> {
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(DataError::Option { name: "seconds", value: seconds, allowed: "above 0 and at most 3600" });
    }
    if !(2_000..=192_000).contains(&rate) {
        return Err(DataError::SampleRate { rate, min: 2_000, max: 192_000 });
    }
    let rate_hz = f64::from(rate);
    let len = ((seconds * rate_hz) as usize).max(1);
    let mut mix = vec![0.0f64; len];
    let mut plucks = 0;
    let mut pluck = |time: f64, semitones: i32, loudness: f64| {
        let start = (time * rate_hz) as usize;
        plucks += 1;
        if let Some(rest) = mix.get_mut(start..) {
            add_string(rest, pitch(semitones), loudness, rate_hz, &mut Random::new(seed, stream::PLUCK, plucks));
        }
    };
    let bar_seconds = SECONDS_PER_NOTE * NOTES_PER_BAR as f64;
    let mut chord = 0;
    for bar in 0..(seconds / bar_seconds) as u32 + 1 {
        let mut random = Random::new(seed, stream::MELODY, bar);
        // Every four bars start at home; otherwise any other chord follows.
        chord = if bar % 4 == 0 { 0 } else { (chord + 1 + random.below(3) as usize) % CHORDS.len() };
        let notes = CHORDS[chord];
        let pattern = PATTERNS[random.below(PATTERNS.len() as u32) as usize];
        let bar_time = f64::from(bar) * bar_seconds;
        let strummed = bar % 4 == 3;
        if strummed {
            for (string, &note) in notes.iter().enumerate() {
                pluck(bar_time + STRUM * string as f64, note, 0.6);
            }
        }
        for (position, &note) in pattern.iter().enumerate() {
            let loudness = (if position % 4 == 0 { 0.8 } else { 0.55 }) + 0.2 * f64::from(random.uniform());
            let rest = position > 0 && random.below(8) == 0;
            if rest || (strummed && position < NOTES_PER_BAR / 2) {
                continue;
            }
            pluck(bar_time + SECONDS_PER_NOTE * position as f64, notes[note], loudness);
        }
    }
    let peak = mix.iter().fold(0.0f64, |peak, sample| peak.max(sample.abs()));
    let gain = if peak > 0.0 { PEAK / peak } else { 0.0 };
    Ok(Clip { samples: mix.iter().map(|sample| (sample * gain) as f32).collect(), rate })
}

fn pitch(semitones: i32) -> f64 {
    let factor = (0..semitones.unsigned_abs()).fold(1.0, |factor, _| factor * SEMITONE);
    if semitones < 0 { ROOT / factor } else { ROOT * factor }
}

/// Adds one plucked string to `mix`, from its first sample on.
fn add_string(mix: &mut [f64], frequency: f64, loudness: f64, rate: f64, random: &mut Random) {
    // The loop's delay in samples: the line, half a sample for the average, and the all-pass filter's share in
    // 0.1..1.1.
    let share = rate / frequency - 0.5;
    let line_len = (share - 0.1) as usize;
    let share = share - line_len as f64;
    if line_len < 2 {
        return;
    }
    let all_pass = (1.0 - share) / (1.0 + share);
    // e^(-6.9 / n), the loss of each round for 60 dB in n rounds, to first order.
    let keep = 1.0 - 6.9 / (DECAY * frequency);

    let noise: Vec<f64> = (0..line_len).map(|_| f64::from(random.uniform()) - 0.5).collect();
    // Averaging neighbours takes the edge off the attack; without its mean the string does not push the speaker out.
    let soft =
        |i: usize| 0.25 * noise[(i + line_len - 1) % line_len] + 0.5 * noise[i] + 0.25 * noise[(i + 1) % line_len];
    let mean = noise.iter().sum::<f64>() / line_len as f64;
    let mut line: Vec<f64> = (0..line_len).map(|i| soft(i) - mean).collect();

    let ring = (RING * rate) as usize;
    let fade = FADE * rate;
    let (mut last, mut average_before, mut passed_before) = (0.0, 0.0, 0.0);
    for (n, mixed) in mix.iter_mut().take(ring).enumerate() {
        let out = line[n % line_len];
        let average = keep * 0.5 * (out + last);
        let passed = all_pass * (average - passed_before) + average_before;
        (last, average_before, passed_before) = (out, average, passed);
        line[n % line_len] = passed;
        let fade_out = ((ring - n) as f64 / fade).min(1.0);
        *mixed += loudness * fade_out * out;
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    #[test]
    fn the_clip_is_a_function_of_its_seed() {
        let clip = plucked_strings(6.0, 16_000, 1).unwrap();
        assert_eq!((clip.samples.len(), clip.rate), (96_000, 16_000));
        assert_eq!(plucked_strings(6.0, 16_000, 1).unwrap(), clip);
        assert_ne!(plucked_strings(6.0, 16_000, 2).unwrap(), clip);
        let peak = clip.samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        assert!((peak - 0.85).abs() < 1e-6, "{peak}");
        let mean = clip.samples.iter().map(|&x| f64::from(x)).sum::<f64>() / clip.samples.len() as f64;
        assert!(mean.abs() < 1e-3, "{mean}");
    }

    /// The bits of one clip, so that another platform or a change of the arithmetic shows.
    #[test]
    fn the_samples_are_the_same_everywhere() {
        let clip = plucked_strings(10.0, 8_000, 7).unwrap();
        let hash = clip.samples.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, sample| {
            (hash ^ u64::from(sample.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
        });
        assert_eq!(hash, HASH, "{hash:#x}");
    }
    const HASH: u64 = 0x52b9_09f9_6904_e5f6;

    #[test]
    fn strings_are_in_tune() {
        for (semitones, rate) in [(-5, 16_000.0), (0, 16_000.0), (12, 8_000.0), (26, 16_000.0), (26, 44_100.0)] {
            let mut samples = vec![0.0; rate as usize];
            add_string(&mut samples, pitch(semitones), 1.0, rate, &mut Random::new(5, 0, 0));
            // Power at a frequency, over the first second, by direct correlation under a Hann window.
            let power = |frequency: f64| {
                let (re, im) = samples.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, &sample)| {
                    let window = 0.5 - 0.5 * (TAU * n as f64 / rate).cos();
                    let angle = TAU * frequency * n as f64 / rate;
                    (re + window * sample * angle.cos(), im + window * sample * angle.sin())
                });
                re * re + im * im
            };
            let cents = |cents: f64| pitch(semitones) * 2f64.powf(cents / 1200.0);
            let best = (-60..=60).map(f64::from).max_by(|a, b| power(cents(*a)).total_cmp(&power(cents(*b)))).unwrap();
            assert!(best.abs() <= 5.0, "{semitones} at {rate} Hz is off by {best} cents");
        }
    }

    #[test]
    fn a_string_decays() {
        let mut samples = vec![0.0; 40_000];
        add_string(&mut samples, pitch(0), 1.0, 16_000.0, &mut Random::new(1, 0, 0));
        let energy = |range: std::ops::Range<usize>| samples[range].iter().map(|x| x * x).sum::<f64>();
        assert!(energy(0..4_000) > 4.0 * energy(16_000..20_000));
        assert!(energy(16_000..20_000) > 0.0);
        assert_eq!(energy(38_400..40_000), 0.0, "it ends after 2.4 s");
    }

    #[test]
    fn it_never_falls_silent() {
        let clip = plucked_strings(30.0, 8_000, 3).unwrap();
        for (index, second) in clip.samples.chunks(8_000).enumerate() {
            let level = (second.iter().map(|x| x * x).sum::<f32>() / 8_000.0).sqrt();
            assert!(level > 0.03, "second {index}: {level}");
        }
    }

    #[test]
    fn settings_out_of_range_are_errors() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(plucked_strings(seconds, 8_000, 0), Err(DataError::Option { name: "seconds", .. })));
        }
        for rate in [0, 1_999, 192_001] {
            assert!(matches!(plucked_strings(1.0, rate, 0), Err(DataError::SampleRate { .. })));
        }
        assert_eq!(plucked_strings(1e-9, 8_000, 0).unwrap().samples.len(), 1);
    }
}
