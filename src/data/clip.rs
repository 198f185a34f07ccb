//! A clip of sound, and the cutting of silence from its ends.

/// A mono recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The samples; full scale is ±1, which a floating-point file, or resampling, may exceed.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub rate: u32,
}

impl Clip {
    /// The clip's length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate.max(1))
    }
}

/// Samples in a frame of [`trim_silence`], as in librosa.
const FRAME: usize = 2048;
/// Frames start a quarter of their length apart, as in librosa.
const HOPS_PER_FRAME: usize = 4;

/// Cuts off what lies before the first and after the last loud frame: the preparation of ibab's tensorflow-wavenet
/// (`audio_reader.py`). The result is empty if no frame is loud.
///
/// A frame is loud if its root mean square exceeds `threshold` (full scale is 1). Frames of 2048 samples, or of the
/// whole clip if that is shorter, are centred on every quarter of a frame; a frame that overhangs an end is averaged
/// over the samples that exist. The cut is made at the centres, and the last loud frame keeps the quarter that follows.
pub fn trim_silence(samples: &[f32], threshold: f32) -> &[f32] {
    let frame = FRAME.min(samples.len());
    let hop = (frame / HOPS_PER_FRAME).max(1);
    let mut energy = Vec::with_capacity(samples.len() + 1);
    let mut sum = 0.0f64;
    energy.push(sum);
    for &sample in samples {
        sum += f64::from(sample) * f64::from(sample);
        energy.push(sum);
    }
    let loud = |centre: usize| {
        let (start, end) = (centre.saturating_sub(frame / 2), (centre + frame.div_ceil(2)).min(samples.len()));
        let mean = (energy[end] - energy[start]).max(0.0) / (end - start).max(1) as f64;
        mean.sqrt() > f64::from(threshold)
    };
    let mut centres = (0..samples.len()).step_by(hop);
    let Some(first) = centres.find(|&centre| loud(centre)) else {
        return &[];
    };
    let last = centres.rfind(|&centre| loud(centre)).unwrap_or(first);
    &samples[first..(last + hop).min(samples.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f32, len: usize) -> Vec<f32> {
        (0..len).map(|i| if i % 2 == 0 { amplitude } else { -amplitude }).collect()
    }

    #[test]
    fn silence_is_cut_at_both_ends_and_kept_inside() {
        let mut samples = vec![0.0; 10_000];
        samples.extend(tone(0.5, 8_000));
        samples.extend(vec![0.0; 6_000]);
        samples.extend(tone(0.5, 8_000));
        samples.extend(vec![0.0; 9_000]);
        let kept = trim_silence(&samples, 0.1);
        let start = kept.as_ptr() as usize / 4 - samples.as_ptr() as usize / 4;
        // A frame is loud once 4 % of it is: up to half a frame early, and half a frame and a hop late.
        assert!((10_000 - 1024..=10_000).contains(&start), "{start}");
        assert!((32_000..=32_000 + 1024 + 512).contains(&(start + kept.len())), "{}", start + kept.len());
        assert!(kept.windows(4_000).any(|window| window.iter().all(|&sample| sample == 0.0)));
    }

    #[test]
    fn a_clip_loud_throughout_is_kept_whole() {
        for len in [1, 2, 3, 7, 100, 2047, 2048, 2049, 5000] {
            assert_eq!(trim_silence(&tone(0.5, len), 0.4999).len(), len, "{len}");
        }
    }

    #[test]
    fn quiet_and_empty_clips_leave_nothing() {
        assert!(trim_silence(&[], 0.0).is_empty());
        assert!(trim_silence(&[0.0; 500], 0.0).is_empty());
        assert!(trim_silence(&tone(0.3, 40_000), 0.3001).is_empty());
        assert_eq!(trim_silence(&tone(0.3, 40_000), 0.2999).len(), 40_000);
    }

    #[test]
    fn frames_shrink_with_a_short_clip() {
        let mut samples = vec![0.0; 600];
        samples.extend(tone(0.5, 200));
        let kept = trim_silence(&samples, 0.2);
        assert!((200..=600).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last(), samples.last());
    }
}
