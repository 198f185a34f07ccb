//! What a clip sounds like, in numbers: its long-term spectrum, how its loudness moves, and how far both are from those
//! of a reference recording.

use realfft::RealFftPlanner;
use std::f64::consts::TAU;
use std::fmt;

/// Levels further below the strongest band, or below the mean level of a clip, count as this: a pause is a pause,
/// whether it holds the noise of μ-law coding or digital zeros.
const FLOOR_DB: f32 = -40.0;
/// Centre of the lowest third-octave band. Speech has little below it, mains hum and offsets have.
const LOWEST_BAND_HZ: f64 = 100.0;
/// Frame lengths over which loudness is measured: a glottal pulse or two, a phone, a word. One length alone cannot tell
/// speech from the same frames in random order; over longer frames that order shows.
const FRAME_SECONDS: [f64; 3] = [0.02, 0.08, 0.32];
/// Quantiles compared between two distributions of level.
const QUANTILES: usize = 200;

/// Welch's power spectrum: the mean over half-overlapping Hann windows of `segment` samples, the mean of the samples
/// removed. Returns `segment / 2 + 1` powers, bin `i` at `i · rate / segment` Hz, scaled so that they sum to the mean
/// square of the samples. A clip shorter than a segment is padded with zeros; an empty one gives zeros.
pub fn power_spectrum(samples: &[f32], segment: usize) -> Vec<f64> {
    let segment = segment.max(2);
    let mut sum = vec![0.0f64; segment / 2 + 1];
    if samples.is_empty() {
        return sum;
    }
    let mean = mean_of(samples);
    let window: Vec<f64> = (0..segment).map(|i| 0.5 - 0.5 * (TAU * (i as f64 + 0.5) / segment as f64).cos()).collect();
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(segment);
    let (mut input, mut output) = (fft.make_input_vec(), fft.make_output_vec());
    let hop = segment.div_ceil(2);
    let last = samples.len().saturating_sub(segment);
    // The last window ends with the clip, so that no sample is left out.
    let starts = (0..last).step_by(hop).chain([last]);
    let mut energy = 0.0;
    for start in starts {
        input.fill(0.0);
        for ((value, sample), weight) in input.iter_mut().zip(&samples[start..]).zip(&window) {
            *value = (f64::from(*sample) - mean) * weight;
            energy += weight * weight;
        }
        if fft.process(&mut input, &mut output).is_err() {
            // Only possible with buffers of the wrong length, which come from the plan itself.
            continue;
        }
        for (bin, (total, value)) in sum.iter_mut().zip(&output).enumerate() {
            // All but the first and (for an even length) last bin stand for a positive and a negative frequency.
            let sides = if bin == 0 || 2 * bin == segment { 1.0 } else { 2.0 };
            *total += sides * value.norm_sqr();
        }
    }
    let scale = if energy > 0.0 { 1.0 / (energy * segment as f64) } else { 0.0 };
    sum.iter_mut().for_each(|power| *power *= scale);
    sum
}

/// Centres in Hz of the third-octave bands of [`long_term_spectrum`]: 100 Hz and up, as long as the whole band lies
/// below half the `rate`.
pub fn band_centres(rate: u32) -> Vec<f64> {
    let highest = f64::from(rate) / 2.0;
    (0..)
        .map(|band| LOWEST_BAND_HZ * 2f64.powf(f64::from(band) / 3.0))
        .take_while(|c| c * 2f64.powf(1.0 / 6.0) <= highest)
        .collect()
}

/// Long-term average spectrum: the power in each third-octave band ([`band_centres`]) in dB relative to full scale.
/// A band without any power is at `f32::NEG_INFINITY`.
pub fn long_term_spectrum(samples: &[f32], rate: u32) -> Vec<f32> {
    third_octaves(samples, rate, &band_centres(rate))
}

/// The power in the third of an octave around each of `centres` in Hz, in dB relative to full scale.
pub fn third_octaves(samples: &[f32], rate: u32, centres: &[f64]) -> Vec<f32> {
    // Windows of an eighth of a second: the lowest band is then three bins wide.
    let segment = (rate as usize / 8).next_power_of_two().max(64);
    let spectrum = power_spectrum(samples, segment);
    let bin_hz = f64::from(rate) / segment as f64;
    let half_band = 2f64.powf(1.0 / 6.0);
    let powers = centres.iter().map(|centre| band_power(&spectrum, bin_hz, centre / half_band, centre * half_band));
    powers.map(|power| decibels(power) as f32).collect()
}

/// Power between two frequencies, a bin at an edge counted by the part of it that lies inside.
fn band_power(spectrum: &[f64], bin_hz: f64, low: f64, high: f64) -> f64 {
    let inside = |bin: usize| {
        let (from, to) = ((bin as f64 - 0.5) * bin_hz, (bin as f64 + 0.5) * bin_hz);
        ((to.min(high) - from.max(low)) / bin_hz).clamp(0.0, 1.0)
    };
    spectrum.iter().enumerate().map(|(bin, power)| power * inside(bin)).sum()
}

/// Levels of the half-overlapping frames of a clip in dB relative to the clip's mean power, not below −40 dB. The mean of
/// the samples is removed first. Empty if the clip is silent or shorter than a frame.
pub fn levels(samples: &[f32], rate: u32, frame_seconds: f64) -> Vec<f32> {
    let frame = ((f64::from(rate) * frame_seconds).round() as usize).max(1);
    let mean = mean_of(samples);
    let power_of = |part: &[f32]| {
        part.iter().map(|&sample| (f64::from(sample) - mean).powi(2)).sum::<f64>() / part.len().max(1) as f64
    };
    let overall = power_of(samples);
    if overall <= SILENCE {
        return Vec::new();
    }
    let frames = samples.windows(frame).step_by(frame.div_ceil(2));
    frames.map(|part| (decibels(power_of(part) / overall) as f32).max(FLOOR_DB)).collect()
}

/// How far a generated clip is from a reference, with the distance of noise beside it as the measure of "far".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// Mean absolute difference in dB between the third-octave spectra, each relative to its mean level.
    /// Infinite if the generated clip is silent.
    pub spectrum_db: f32,
    /// The same for white noise.
    pub white_noise_spectrum_db: f32,
    /// Mean absolute difference in dB between the distributions of short-time level (frames of 20, 80 and 320 ms), each
    /// relative to the clip's mean power: the Wasserstein-1 distance. Infinite if the generated clip is silent.
    pub envelope_db: f32,
    /// The same for noise of constant level, whatever its spectrum.
    pub steady_noise_envelope_db: f32,
}

impl fmt::Display for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.spectrum_db.is_infinite() {
            return write!(f, "the clip is silent");
        }
        write!(
            f,
            "spectrum {:.1} dB from the recordings' (white noise: {:.1} dB), envelope {:.1} dB (steady noise: {:.1} dB)",
            self.spectrum_db, self.white_noise_spectrum_db, self.envelope_db, self.steady_noise_envelope_db
        )
    }
}

/// Compares a generated clip with a reference recording (the longer the better) of the same `rate` in Hz.
/// `None` if the reference is silent, shorter than a frame of 320 ms, or its rate leaves no band to compare.
pub fn similarity(reference: &[f32], generated: &[f32], rate: u32) -> Option<Similarity> {
    let reference_levels = FRAME_SECONDS.map(|seconds| levels(reference, rate, seconds));
    if reference_levels.iter().any(Vec::is_empty) || band_centres(rate).is_empty() {
        return None;
    }
    let spectrum = shape(&long_term_spectrum(reference, rate));
    let white: Vec<f32> = band_centres(rate).iter().map(|&centre| decibels(centre) as f32).collect();
    let distance_of = |levels_of: &dyn Fn(f64) -> Vec<f32>| {
        let total: f32 = FRAME_SECONDS.iter().zip(&reference_levels).map(|(&s, r)| wasserstein(r, &levels_of(s))).sum();
        total / FRAME_SECONDS.len() as f32
    };
    let silent = levels(generated, rate, FRAME_SECONDS[0]).is_empty();
    Some(Similarity {
        spectrum_db: if silent {
            f32::INFINITY
        } else {
            mean_difference(&spectrum, &shape(&long_term_spectrum(generated, rate)))
        },
        white_noise_spectrum_db: mean_difference(&spectrum, &shape(&white)),
        envelope_db: distance_of(&|seconds| levels(generated, rate, seconds)),
        steady_noise_envelope_db: distance_of(&|_| vec![0.0]),
    })
}

/// Share of the clip's power that lies within `half_width_hz` of one of the `pitches` in Hz, the mean of the samples
/// removed: 0 to 1. A silent clip has 0. The clip must last some periods of `half_width_hz` for the pitches to be told
/// apart; a clip of less than `8 / half_width_hz` seconds is seen blurred.
pub fn tone_power(samples: &[f32], rate: u32, pitches: &[f64], half_width_hz: f64) -> f64 {
    // A steady tone fills ±2 bins of a Hann window: with eight bins to the half width it stays well inside.
    let wanted = (8.0 * f64::from(rate) / half_width_hz.max(1e-3)).min(f64::from(1u32 << 24)) as usize;
    let segment = wanted.min(samples.len()).max(2);
    let spectrum = power_spectrum(samples, segment);
    let total: f64 = spectrum.iter().sum();
    if total <= SILENCE {
        return 0.0;
    }
    let bin_hz = f64::from(rate) / segment as f64;
    let near = |hz: f64| pitches.iter().any(|pitch| (hz - pitch).abs() <= half_width_hz);
    let tones: f64 = spectrum.iter().enumerate().filter(|(bin, _)| near(*bin as f64 * bin_hz)).map(|(_, p)| p).sum();
    tones / total
}

/// Mean power below which a clip counts as silent: −140 dB of full scale, less than a 24-bit sample can hold.
const SILENCE: f64 = 1e-14;

fn decibels(power: f64) -> f64 {
    10.0 * power.log10()
}

fn mean_of(samples: &[f32]) -> f64 {
    samples.iter().map(|&sample| f64::from(sample)).sum::<f64>() / samples.len().max(1) as f64
}

/// A spectrum relative to its own mean level, after lifting what lies below the floor.
fn shape(spectrum: &[f32]) -> Vec<f32> {
    let strongest = spectrum.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lifted: Vec<f32> = spectrum.iter().map(|&level| level.max(strongest + FLOOR_DB)).collect();
    let mean = lifted.iter().sum::<f32>() / lifted.len().max(1) as f32;
    lifted.iter().map(|level| level - mean).collect()
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len().max(1) as f32
}

/// Wasserstein-1 distance of two sets of levels: the mean absolute difference of their quantiles. Infinite if one is
/// empty.
fn wasserstein(a: &[f32], b: &[f32]) -> f32 {
    if a.is_empty() || b.is_empty() {
        return f32::INFINITY;
    }
    let sorted = |levels: &[f32]| {
        let mut sorted = levels.to_vec();
        sorted.sort_by(f32::total_cmp);
        sorted
    };
    let (a, b) = (sorted(a), sorted(b));
    let at = |sorted: &[f32], quantile: usize| {
        let place = (quantile as f32 + 0.5) / QUANTILES as f32 * sorted.len() as f32 - 0.5;
        let place = place.clamp(0.0, (sorted.len() - 1) as f32);
        let below = place as usize;
        let above = (below + 1).min(sorted.len() - 1);
        sorted[below] + (sorted[above] - sorted[below]) * (place - below as f32)
    };
    (0..QUANTILES).map(|quantile| (at(&a, quantile) - at(&b, quantile)).abs()).sum::<f32>() / QUANTILES as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use receptive::random::Random;

    const RATE: u32 = 8000;

    fn noise(seed: u64, len: usize) -> Vec<f32> {
        let mut random = Random::new(seed, 0, 0);
        (0..len).map(|_| 0.1 * random.normal()).collect()
    }

    fn low_pass(samples: &[f32]) -> Vec<f32> {
        let mut state = 0.0;
        samples.iter().map(|sample| (state += 0.2 * (sample - state), state).1).collect()
    }

    /// Low-passed noise that comes in bursts of 80 to 480 ms with pauses between them, as syllables do.
    fn bursts(seed: u64, len: usize) -> Vec<f32> {
        let mut random = Random::new(seed, 1, 0);
        let mut gains = Vec::with_capacity(len);
        while gains.len() < len {
            let gain = 10f32.powf(-random.uniform());
            gains.resize(gains.len() + 640 + random.below(3200) as usize, gain);
            gains.resize(gains.len() + 640 + random.below(3200) as usize, 0.003);
        }
        low_pass(&noise(seed, len)).iter().zip(gains).map(|(sample, gain)| sample * gain).collect()
    }

    /// The same clip with its 20 ms frames in another order.
    fn shuffled(samples: &[f32]) -> Vec<f32> {
        let frames: Vec<&[f32]> = samples.chunks_exact(160).collect();
        let order = Random::new(9, 2, 0).permutation(frames.len());
        order.iter().flat_map(|&frame| frames[frame as usize]).copied().collect()
    }

    #[test]
    fn the_power_spectrum_sums_to_the_mean_square() {
        for (len, segment) in [(50_000, 1024), (50_001, 777), (300, 1024), (2, 2)] {
            let mut samples = noise(3, len);
            let mean_square = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / len as f64;
            let mean = mean_of(&samples);
            samples.iter_mut().for_each(|sample| *sample += 0.7);
            let total: f64 = power_spectrum(&samples, segment).iter().sum();
            let expected = mean_square - mean * mean;
            let allowed = if len > 1000 { 0.03 } else { 0.3 };
            assert!((total / expected - 1.0).abs() < allowed, "{len} samples by {segment}: {total} for {expected}");
        }
    }

    #[test]
    fn white_noise_rises_by_a_decibel_a_band() {
        let levels = long_term_spectrum(&noise(4, 400_000), RATE);
        assert_eq!(levels.len(), band_centres(RATE).len());
        for (level, centre) in levels.iter().zip(band_centres(RATE)) {
            // Mean square 0.01 spread evenly over 4000 Hz; a third of an octave is 0.2316 of its centre wide.
            let expected = decibels(0.01 * 0.2316 * centre / 4000.0) as f32;
            assert!((level - expected).abs() < 0.6, "band at {centre:.0} Hz: {level} dB, expected {expected} dB");
        }
    }

    #[test]
    fn tone_power_is_the_share_of_the_tones() {
        let pitches = [155.56, 196.0, 233.08];
        // Three sines of mean square 0.005 each, noise of 0.005: three quarters are at the pitches, and of the noise
        // the part that falls into 3 · 6 of 4000 Hz.
        let mut samples: Vec<f32> = noise(5, 80_000).iter().map(|sample| 0.5f32.sqrt() * sample + 0.4).collect();
        for (i, sample) in samples.iter_mut().enumerate() {
            let phase = TAU * i as f64 / f64::from(RATE);
            *sample += pitches.iter().map(|pitch| 0.1 * (phase * pitch).sin() as f32).sum::<f32>();
        }
        let share = tone_power(&samples, RATE, &pitches, 3.0);
        assert!((share - 0.751).abs() < 0.01, "{share}");
        let elsewhere = tone_power(&samples, RATE, &[165.0, 185.0, 220.0], 3.0);
        assert!(elsewhere < 0.005, "{elsewhere}");
        let one = tone_power(&samples, RATE, &pitches[..1], 3.0);
        assert!((one - 0.25).abs() < 0.01, "{one}");
        assert_eq!(tone_power(&[0.25; 8000], RATE, &pitches, 3.0), 0.0);
    }

    #[test]
    fn two_recordings_of_a_kind_are_close_and_noise_is_far() {
        let reference = bursts(1, 800_000);
        let compare = |generated: &[f32]| similarity(&reference, generated, RATE).expect("the reference has sound");
        let alike = compare(&bursts(2, 160_000));
        assert!(alike.spectrum_db < 1.5 && alike.envelope_db < 2.5, "{alike}");
        assert!(alike.white_noise_spectrum_db > 4.0 && alike.steady_noise_envelope_db > 8.0, "{alike}");

        let white = compare(&noise(3, 160_000));
        assert!((white.spectrum_db - white.white_noise_spectrum_db).abs() < 0.3, "{white}");
        assert!((white.envelope_db / white.steady_noise_envelope_db - 1.0).abs() < 0.15, "{white}");

        let steady = compare(&low_pass(&noise(4, 160_000)));
        assert!(steady.spectrum_db < 1.5 && steady.envelope_db > 0.8 * steady.steady_noise_envelope_db, "{steady}");

        let restless = compare(&shuffled(&bursts(5, 160_000)));
        assert!(restless.envelope_db > 2.0 * alike.envelope_db, "{restless} against {alike}");
    }

    #[test]
    fn loudness_alone_makes_no_difference() {
        let reference = bursts(1, 200_000);
        let quiet: Vec<f32> = reference.iter().map(|sample| 0.1 * sample + 0.2).collect();
        let similarity = similarity(&reference, &quiet, RATE).expect("the reference has sound");
        assert!(similarity.spectrum_db < 0.1 && similarity.envelope_db < 0.1, "{similarity}");
    }

    #[test]
    fn silence_is_infinitely_far_and_no_reference() {
        let reference = bursts(1, 80_000);
        let silent = similarity(&reference, &[0.5; 8000], RATE).expect("the reference has sound");
        assert!(silent.spectrum_db.is_infinite() && silent.envelope_db.is_infinite());
        assert_eq!(silent.to_string(), "the clip is silent");
        assert_eq!(similarity(&[0.0; 8000], &reference, RATE), None);
        assert_eq!(similarity(&reference[..100], &reference, RATE), None);
        assert_eq!(similarity(&reference, &reference, 0), None);
    }
}
