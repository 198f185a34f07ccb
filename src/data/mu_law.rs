//! µ-law companding (ITU-T G.711, continuous form), as the WaveNet paper quantises audio (van den Oord et al. 2016,
//! 2.2).

use super::DataError;

/// Samples to class ids and back, with µ = classes − 1.
///
/// The arithmetic is that of ibab's tensorflow-wavenet (`ops.py`): with `s = sign(x) ln(1 + µ min(|x|, 1)) / ln(1 +
/// µ)`, the class is `⌊(s + 1) / 2 · µ + ½⌋`, and back `s = 2 class / µ − 1`, `x = sign(s) ((1 + µ)^|s| − 1) / µ`. It
/// is done in f64, so that platforms agree on the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct MuLaw {
    mu: f64,
    decoded: Vec<f32>,
}

impl MuLaw {
    /// A quantiser with `classes` levels.
    ///
    /// # Errors
    /// [`DataError::Option`] unless `classes` is in 2..=65536.
    pub fn new(classes: usize) -> Result<Self, DataError> {
        if !(2..=65_536).contains(&classes) {
            return Err(DataError::Option { name: "classes", value: classes as f64, allowed: "in 2..=65536" });
        }
        let mu = (classes - 1) as f64;
        let expand = |class| {
            let signal = 2.0 * f64::from(class) / mu - 1.0;
            (signal.signum() * ((1.0 + mu).powf(signal.abs()) - 1.0) / mu) as f32
        };
        Ok(Self { mu, decoded: (0..classes as u32).map(expand).collect() })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.decoded.len()
    }

    /// The class of a sample, in `0..classes`. Samples beyond ±1 are taken as ±1; NaN gives class 0.
    pub fn encode(&self, sample: f32) -> u32 {
        let sample = f64::from(sample);
        let magnitude = (self.mu * sample.abs().min(1.0)).ln_1p() / self.mu.ln_1p();
        let signal = if sample.is_nan() { -1.0 } else { magnitude.copysign(sample) };
        ((signal + 1.0) / 2.0 * self.mu + 0.5) as u32
    }

    /// The sample that a class stands for, in −1..=1; ids beyond the last class give the last class's sample.
    pub fn decode(&self, class: u32) -> f32 {
        self.decoded[(class as usize).min(self.decoded.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.log1p` and friends in f64 and in f32, which agree on these.
    #[test]
    fn known_classes() {
        let samples: [f32; 21] = [
            -2.0, -1.0, -0.999, -0.5, -0.1, -0.01, -0.001, -1e-5, 0.0, 1e-5, 1e-4, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5,
            0.75, 0.9, 1.0, 3.0,
        ];
        let cases: [(usize, [u32; 21]); 3] = [
            (256, [0, 0, 0, 16, 52, 98, 122, 127, 128, 128, 128, 133, 157, 188, 203, 223, 239, 248, 253, 255, 255]),
            (16, [0, 0, 0, 2, 5, 7, 7, 7, 8, 8, 8, 8, 8, 9, 10, 12, 13, 14, 15, 15, 15]),
            (
                65_536,
                [
                    0, 0, 3, 2048, 6803, 13602, 20365, 31278, 32768, 34257, 38742, 45170, 51933, 56685, 58732, 61439,
                    63487, 64685, 65224, 65535, 65535,
                ],
            ),
        ];
        for (classes, expected) in cases {
            let mu_law = MuLaw::new(classes).unwrap();
            assert_eq!(samples.map(|sample| mu_law.encode(sample)), expected, "{classes} classes");
        }
    }

    /// From numpy in f64.
    #[test]
    fn known_samples() {
        let cases: [(usize, u32, f64); 11] = [
            (256, 0, -1.0),
            (256, 1, -0.957_273_708_663_595_7),
            (256, 64, -0.058_145_003_880_347_55),
            (256, 127, -8.621_159_565_072_034e-5),
            (256, 128, 8.621_159_565_072_034e-5),
            (256, 192, 0.060_903_938_013_580_16),
            (256, 255, 1.0),
            (16, 4, -0.176_459_330_282_191_16),
            (16, 12, 0.285_202_109_539_438_6),
            (65_536, 32_767, -2.582_471_777_723_654e-9),
            (65_536, 49_152, 0.003_892_042_294_777_14),
        ];
        for (classes, class, expected) in cases {
            let sample = f64::from(MuLaw::new(classes).unwrap().decode(class));
            assert!((sample - expected).abs() <= expected.abs() * 1e-6, "{classes} {class}: {sample} {expected}");
        }
    }

    #[test]
    fn every_class_survives_the_round_trip() {
        for classes in [2, 3, 16, 255, 256, 1024, 65_535, 65_536] {
            let mu_law = MuLaw::new(classes).unwrap();
            assert_eq!(mu_law.classes(), classes);
            for class in 0..classes as u32 {
                assert_eq!(mu_law.encode(mu_law.decode(class)), class, "{classes} classes");
            }
        }
    }

    #[test]
    fn odd_input_stays_in_range() {
        let mu_law = MuLaw::new(256).unwrap();
        assert_eq!(mu_law.encode(f32::INFINITY), 255);
        assert_eq!(mu_law.encode(f32::NEG_INFINITY), 0);
        assert_eq!(mu_law.encode(f32::NAN), 0);
        assert_eq!(mu_law.encode(-0.0), 127 + 1);
        assert_eq!(mu_law.decode(u32::MAX), 1.0);
        for classes in [0, 1, 65_537] {
            assert!(matches!(MuLaw::new(classes), Err(DataError::Option { name: "classes", .. })));
        }
    }
}
