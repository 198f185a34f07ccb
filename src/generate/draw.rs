//! The draw of a class from logits.

use crate::error::{Error, Result};
use crate::graph::{Real, vector_kernel};
use crate::random::{philox, unit_f32};

/// How the next sample is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The logits are divided by it: below 1 likely classes become likelier still; at 0 the likeliest is always taken
    /// (the first of equals). Default 1, the model's own distribution.
    pub temperature: f32,
    /// The same seed gives the same samples.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, seed: 0 }
    }
}

/// What the random numbers are for, in the last word of the counter.
pub(super) const STREAM_DRAW: u32 = 0xD4A3;

/// Where the logit lies this far below the largest, after temperature, the probability counts as 0. Both executors'
/// exponentials are exact enough above it.
pub(super) const CUTOFF: f32 = -80.0;

impl Sampling {
    /// # Errors
    /// [`Error::Config`] if the temperature is negative or not finite.
    pub(super) fn validate(&self) -> Result<()> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the temperature of sampling must be 0 (always the likeliest class) or more, not {}",
            self.temperature
        )))
    }

    /// 1 / temperature, kept finite; nothing for the likeliest class.
    pub(super) fn inverse_temperature(&self) -> Option<f32> {
        (self.temperature > 0.0).then(|| (1.0 / self.temperature).min(1e30))
    }

    /// The uniform number of a sample.
    pub(super) fn uniform(&self, sample: u64, stream: u32) -> f32 {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        unit_f32(philox([sample as u32, (sample >> 32) as u32, stream, STREAM_DRAW], key)[0])
    }
}

/// The class whose part of the cumulative distribution holds `uniform`; nothing if a logit is not finite.
///
/// `weights` is as long as `logits`; its contents are lost.
pub(super) fn draw(logits: &[f32], inverse_temperature: Option<f32>, uniform: f32, weights: &mut [f32]) -> Option<u32> {
    if !logits.iter().fold(true, |finite, l| finite & l.is_finite()) {
        return None;
    }
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &l| m.larger(l));
    let Some(inverse) = inverse_temperature else {
        return logits.iter().position(|&l| l == largest).map(|class| class as u32);
    };
    weigh(logits, largest, inverse, weights);
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let target = f64::from(uniform) * total;
    let mut sum = 0.0;
    let mut last = 0;
    for (class, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        sum += f64::from(weight);
        last = class;
        if sum > target {
            break;
        }
    }
    Some(last as u32)
}

vector_kernel! {
/// The softmax's numerators; nothing is left of those below the cutoff.
fn weigh<'a, T: Real>(logits: &'a [T], largest: T, inverse_temperature: T, weights: &'a mut [T]) -> () {
    for (weight, &logit) in weights.iter_mut().zip(logits) {
        let x = (logit - largest) * inverse_temperature;
        let e = x.exp();
        *weight = if x < T::of(f64::from(CUTOFF)) { T::ZERO } else { e };
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(logits: &[f32], temperature: f32, uniform: f32) -> Option<u32> {
        let sampling = Sampling { temperature, seed: 0 };
        draw(logits, sampling.inverse_temperature(), uniform, &mut vec![0.0; logits.len()])
    }

    #[test]
    fn a_class_has_its_part_of_the_unit_interval() {
        // Probabilities 0.25, 0, 0.5, 0.25 and 0.
        let logits = [0.25_f32.ln(), -1000.0, 0.5_f32.ln(), 0.25_f32.ln(), -1e30];
        for (uniform, expected) in [(1e-7, 0), (0.249, 0), (0.251, 2), (0.749, 2), (0.751, 3), (0.999_999_94, 3)] {
            assert_eq!(class(&logits, 1.0, uniform), Some(expected), "{uniform}");
        }
        // Squared and normalised at temperature 1/2: 1/6, 4/6, 1/6.
        for (uniform, expected) in [(0.166, 0), (0.167, 2), (0.833, 2), (0.834, 3)] {
            assert_eq!(class(&logits, 0.5, uniform), Some(expected), "{uniform}");
        }
        for temperature in [0.0, 1e-45, 1e-20] {
            assert_eq!(class(&logits, temperature, 0.999), Some(2), "{temperature}");
        }
    }

    #[test]
    fn nothing_is_drawn_from_what_is_not_finite() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(class(&[0.0, odd, 1.0], 1.0, 0.5), None);
            assert_eq!(class(&[0.0, odd, 1.0], 0.0, 0.5), None);
        }
    }

    #[test]
    fn the_first_of_equals_is_the_likeliest() {
        assert_eq!(class(&[0.0, 3.0, 3.0], 0.0, 0.9), Some(1));
    }
}
