//! Sound files: WAV and FLAC in, WAV out, and conversion between sample rates.

use std::fs;
use std::io::{Cursor, ErrorKind, Write as _};
use std::path::Path;

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::{Clip, DataError};

/// The highest sample rate handled, in hertz.
pub const MAX_RATE: u32 = 768_000;

/// Reads a WAV file (8, 16, 24 or 32-bit integer, 32-bit float) or a FLAC file (up to 24 bits). Which of the two it is
/// is decided by its first bytes. Several channels are mixed down to their mean.
///
/// # Errors
/// [`DataError`]: `Io`, `NotAudio`, `Truncated`, `Malformed`, `Unsupported`, `Empty` or `NotFinite`, naming the file.
/// A file that ends early is an error, not a shorter clip.
pub fn read(path: impl AsRef<Path>) -> Result<Clip, DataError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| DataError::Io { path: path.into(), action: "read", source })?;
    let clip = match bytes.get(..4) {
        Some(b"RIFF") if bytes.get(8..12) == Some(b"WAVE") => read_wav(path, &bytes)?,
        Some(b"fLaC") => read_flac(path, &bytes)?,
        _ => return Err(DataError::NotAudio { path: path.into(), found: looks_like(&bytes) }),
    };
    if clip.samples.is_empty() {
        return Err(DataError::Empty { path: path.into() });
    }
    if !(1..=MAX_RATE).contains(&clip.rate) {
        return Err(DataError::Unsupported { path: path.into(), reason: format!("a sample rate of {} Hz", clip.rate) });
    }
    if let Some(index) = clip.samples.iter().position(|sample| !sample.is_finite()) {
        return Err(DataError::NotFinite { path: path.into(), index });
    }
    Ok(clip)
}

fn looks_like(bytes: &[u8]) -> &'static str {
    const SIGNS: [(&[u8], &str); 11] = [
        (b"OggS", "Ogg (Vorbis or Opus)"),
        (b"ID3", "MP3, or another format behind an ID3 tag"),
        (b"\xff\xfb", "MP3"),
        (b"\xff\xf3", "MP3"),
        (b"FORM", "AIFF"),
        (b"RF64", "RF64, the WAV variant for files over 4 GiB"),
        (b"RIFX", "big-endian WAV"),
        (b"RIFF", "a RIFF file other than WAV"),
        (b"version https://git-lfs", "a Git LFS pointer; fetch the content with `git lfs pull`"),
        (b"<", "a web page or XML"),
        (b"PK", "a zip archive; unpack it"),
    ];
    if bytes.is_empty() {
        return "an empty file";
    }
    let plain = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let rest = if bytes.iter().take(512).all(plain) { "text" } else { "nothing known here" };
    SIGNS.iter().find(|(sign, _)| bytes.starts_with(sign)).map_or(rest, |&(_, name)| name)
}

/// The bodies of the `fmt ` and `data` chunks of a RIFF file.
///
/// hound would find them too, but stops at the padding byte after a chunk of odd length, and learns that the data is
/// cut off only on reaching the end.
fn wav_chunks<'a>(path: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), DataError> {
    let malformed = |reason: &str| DataError::Malformed { path: path.into(), format: "WAV", reason: reason.into() };
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut format = None;
    let mut at = 12;
    while let (Some(id), Some(len)) = (bytes.get(at..at + 4), word(at + 4)) {
        let start = at + 8;
        let end = start.saturating_add(len as usize);
        let body = bytes.get(start..end);
        if id == b"data" {
            let format = format.ok_or_else(|| malformed("the data comes before its format"))?;
            let unknown = len == u32::MAX || (len == 0 && matches!(word(4), Some(0 | u32::MAX)));
            if unknown {
                return Err(malformed("its header does not say how long it is (was it written to a pipe?)"));
            }
            let data = body.ok_or_else(|| DataError::Truncated {
                path: path.into(),
                expected: u64::from(len),
                found: (bytes.len() - start) as u64,
                unit: "bytes",
            })?;
            return Ok((format, data));
        }
        if id == b"fmt " {
            format = body;
        }
        // Chunks are padded to even lengths with a zero; some writers forget to.
        let padded = len % 2 == 1 && bytes.get(end) == Some(&0);
        at = end.saturating_add(usize::from(padded));
    }
    match word(4) {
        Some(len) if len != u32::MAX && u64::from(len) + 8 > bytes.len() as u64 => Err(DataError::Truncated {
            path: path.into(),
            expected: u64::from(len) + 8,
            found: bytes.len() as u64,
            unit: "bytes",
        }),
        _ => Err(malformed("it has no data chunk")),
    }
}

fn read_wav(path: &Path, bytes: &[u8]) -> Result<Clip, DataError> {
    let (mut format, data) = wav_chunks(path, bytes)?;
    let tag = format.get(..2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
    // An extension says nothing for plain PCM (1) and float (3), and hound is strict about its length.
    if matches!(tag, 1 | 3) {
        format = &format[..format.len().min(16)];
    }
    let mut canonical = Vec::with_capacity(28 + format.len() + data.len());
    canonical.extend(b"RIFF");
    canonical.extend(((20 + format.len() + data.len()) as u32).to_le_bytes());
    canonical.extend(b"WAVEfmt ");
    canonical.extend((format.len() as u32).to_le_bytes());
    canonical.extend(format);
    canonical.extend(b"data");
    canonical.extend((data.len() as u32).to_le_bytes());
    canonical.extend(data);

    let error = |error: hound::Error| match error {
        hound::Error::FormatError(reason) => {
            DataError::Malformed { path: path.into(), format: "WAV", reason: reason.into() }
        }
        hound::Error::IoError(source) => DataError::Io { path: path.into(), action: "decode", source },
        _ => DataError::Unsupported {
            path: path.into(),
            reason: match tag {
                1 | 3 | 0xfffe => "this number of bits a sample".into(),
                _ => format!("WAV encoding {tag:#06x} (integer and float PCM are)"),
            },
        },
    };
    let mut reader = hound::WavReader::new(Cursor::new(canonical)).map_err(error)?;
    let spec = reader.spec();
    let samples = match spec.sample_format {
        hound::SampleFormat::Float => mix_down(reader.samples::<f32>(), spec.channels).map_err(error)?,
        hound::SampleFormat::Int => {
            let scale = full_scale(u32::from(spec.bits_per_sample));
            let samples = reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 * scale));
            mix_down(samples, spec.channels).map_err(error)?
        }
    };
    Ok(Clip { samples, rate: spec.sample_rate })
}

/// What takes integers of so many bits to −1..1.
fn full_scale(bits: u32) -> f32 {
    (1.0 / (1u64 << (bits.clamp(1, 32) - 1)) as f64) as f32
}

/// The mean over the channels of interleaved samples.
fn mix_down<E>(samples: impl Iterator<Item = Result<f32, E>>, channels: u16) -> Result<Vec<f32>, E> {
    if channels <= 1 {
        return samples.collect();
    }
    let channels = usize::from(channels);
    let mut mixed = Vec::with_capacity(samples.size_hint().0 / channels);
    let mut sum = 0.0;
    for (index, sample) in samples.enumerate() {
        sum += sample?;
        if index % channels == channels - 1 {
            mixed.push(sum / channels as f32);
            sum = 0.0;
        }
    }
    Ok(mixed)
}

fn read_flac(path: &Path, bytes: &[u8]) -> Result<Clip, DataError> {
    let malformed = |reason: &str| DataError::Malformed { path: path.into(), format: "FLAC", reason: reason.into() };
    let error = |error: claxon::Error, expected: Option<u64>, found: usize| match (error, expected) {
        (claxon::Error::FormatError(reason), _) => malformed(reason),
        (claxon::Error::Unsupported(reason), _) => {
            DataError::Unsupported { path: path.into(), reason: format!("in FLAC, {reason}") }
        }
        (claxon::Error::IoError(source), Some(expected)) if source.kind() == ErrorKind::UnexpectedEof => {
            DataError::Truncated { path: path.into(), expected, found: found as u64, unit: "samples" }
        }
        (claxon::Error::IoError(_), _) => malformed("it ends in the middle"),
    };
    let mut reader = claxon::FlacReader::new(bytes).map_err(|e| error(e, None, 0))?;
    let info = reader.streaminfo();
    let scale = full_scale(info.bits_per_sample);
    let mut samples: Vec<f32> = Vec::new();
    let mut blocks = reader.blocks();
    let mut buffer = Vec::new();
    loop {
        let block = match blocks.read_next_or_eof(buffer) {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(e) => return Err(error(e, info.samples, samples.len())),
        };
        let start = samples.len();
        samples.resize(start + block.duration() as usize, 0.0);
        for channel in 0..block.channels() {
            for (mixed, &sample) in samples[start..].iter_mut().zip(block.channel(channel)) {
                *mixed += sample as f32 * scale;
            }
        }
        let share = 1.0 / block.channels().max(1) as f32;
        samples[start..].iter_mut().for_each(|sample| *sample *= share);
        buffer = block.into_buffer();
    }
    match info.samples {
        Some(expected) if expected > samples.len() as u64 => {
            Err(DataError::Truncated { path: path.into(), expected, found: samples.len() as u64, unit: "samples" })
        }
        _ => Ok(Clip { samples, rate: info.sample_rate }),
    }
}

/// Writes mono 16-bit PCM WAV. Samples beyond ±1 are clipped. The file appears under its name only when complete.
///
/// # Errors
/// [`DataError::Io`], [`DataError::NotFinite`] (nothing is written), [`DataError::SampleRate`], or
/// [`DataError::Unsupported`] if the sound does not fit a WAV file (4 GiB).
pub fn write_wav(path: impl AsRef<Path>, samples: &[f32], rate: u32) -> Result<(), DataError> {
    let path = path.as_ref();
    check_rate(rate)?;
    if let Some(index) = samples.iter().position(|sample| !sample.is_finite()) {
        return Err(DataError::NotFinite { path: path.into(), index });
    }
    if samples.len() as u64 > u64::from(u32::MAX / 2 - 64) {
        return Err(DataError::Unsupported { path: path.into(), reason: "a WAV file over 4 GiB".into() });
    }
    let mut bytes = Cursor::new(Vec::with_capacity(44 + 2 * samples.len()));
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let encode = |bytes: &mut Cursor<Vec<u8>>| {
        let mut writer = hound::WavWriter::new(bytes, spec)?;
        for &sample in samples {
            writer.write_sample((sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)?;
        }
        writer.finalize()
    };
    encode(&mut bytes).map_err(|e| DataError::Io {
        path: path.into(),
        action: "encode",
        source: std::io::Error::other(e),
    })?;

    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes.get_ref())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // What is left of a failed write; that it may not exist is no second error.
        let _ = fs::remove_file(&temporary);
        DataError::Io { path: path.into(), action: "write", source }
    })
}

fn check_rate(rate: u32) -> Result<(), DataError> {
    if (1..=MAX_RATE).contains(&rate) { Ok(()) } else { Err(DataError::SampleRate { rate, min: 1, max: MAX_RATE }) }
}

/// The shorter of the resampler's two transforms is at least this long, which puts the filter's cutoff at 98.7 % of the
/// lower rate's band.
const SHORTEST_TRANSFORM: u32 = 1024;

/// The clip at another sample rate, by overlap-add in the frequency domain with a Blackman-Harris anti-aliasing filter
/// of linear phase. The filter's delay is taken out: sample `n` of the result is the moment `n / rate` of the clip.
/// The result has `round(len · rate / clip.rate)` samples; outside the clip there is silence.
///
/// # Errors
/// [`DataError::SampleRate`] for a rate outside 1..=[`MAX_RATE`], or [`DataError::Resample`].
pub fn resample(clip: &Clip, rate: u32) -> Result<Clip, DataError> {
    check_rate(clip.rate)?;
    check_rate(rate)?;
    if rate == clip.rate {
        return Ok(clip.clone());
    }
    let len = (clip.samples.len() as u128 * u128::from(rate) + u128::from(clip.rate / 2)) / u128::from(clip.rate);
    let len = len as usize;
    if len == 0 {
        return Ok(Clip { samples: Vec::new(), rate });
    }
    let failed = |reason: String| DataError::Resample { from: clip.rate, to: rate, reason };
    let divisor = greatest_common_divisor(clip.rate, rate);
    let (from, to) = (clip.rate / divisor, rate / divisor);
    // An even count makes both transforms even, so that the delay, half of one, is a whole number of samples.
    let blocks = SHORTEST_TRANSFORM.div_ceil(from.min(to)).next_multiple_of(2);
    let mut resampler = Fft::<f32>::new_custom(
        from as usize,
        to as usize,
        (blocks * from) as usize,
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .map_err(|e| failed(e.to_string()))?;
    let input = SequentialSlice::new(&clip.samples, 1, clip.samples.len()).map_err(|e| failed(e.to_string()))?;
    let output = resampler.process_all(&input, clip.samples.len(), None).map_err(|e| failed(e.to_string()))?;
    let mut samples = output.take_data();
    samples.resize(len, 0.0);
    Ok(Clip { samples, rate })
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
#[path = "audio_tests.rs"]
mod tests;
