use std::f64::consts::TAU;
use std::path::PathBuf;

use super::*;

fn wav_bytes(spec: hound::WavSpec, write: impl FnOnce(&mut hound::WavWriter<Cursor<&mut Vec<u8>>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = hound::WavWriter::new(Cursor::new(&mut bytes), spec).unwrap();
    write(&mut writer);
    writer.finalize().unwrap();
    bytes
}

fn spec(channels: u16, bits: u16, sample_format: hound::SampleFormat) -> hound::WavSpec {
    hound::WavSpec { channels, sample_rate: 8000, bits_per_sample: bits, sample_format }
}

fn read_bytes(bytes: &[u8]) -> Result<Clip, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.bin");
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

fn pcm16(samples: &[i16]) -> Vec<u8> {
    wav_bytes(spec(1, 16, hound::SampleFormat::Int), |writer| {
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    })
}

#[test]
fn integers_of_every_width_have_the_same_scale() {
    for bits in [8u16, 16, 24, 32] {
        let half = 1i64 << (bits - 2);
        let bytes = wav_bytes(spec(1, bits, hound::SampleFormat::Int), |writer| {
            for value in [0, half, -half, -2 * half] {
                writer.write_sample(value as i32).unwrap();
            }
        });
        let clip = read_bytes(&bytes).unwrap();
        assert_eq!(clip, Clip { samples: vec![0.0, 0.5, -0.5, -1.0], rate: 8000 }, "{bits} bits");
    }
}

#[test]
fn float_samples_come_back_unchanged() {
    let samples = [0.1f32, -0.7, 1.5, f32::MIN_POSITIVE];
    let bytes = wav_bytes(spec(1, 32, hound::SampleFormat::Float), |writer| {
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    });
    assert_eq!(read_bytes(&bytes).unwrap().samples, samples);
}

#[test]
fn channels_are_averaged() {
    let bytes = wav_bytes(spec(3, 16, hound::SampleFormat::Int), |writer| {
        for value in [3000i16, 6000, -3000, 0, 0, 300] {
            writer.write_sample(value).unwrap();
        }
    });
    let clip = read_bytes(&bytes).unwrap();
    let expected = [2000.0 / 32_768.0, 100.0 / 32_768.0];
    assert_eq!(clip.samples.len(), 2);
    assert!(clip.samples.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{:?}", clip.samples);
}

#[test]
fn a_wav_file_cut_off_anywhere_is_an_error() {
    let whole = pcm16(&(0..500).map(|i| i * 60).collect::<Vec<_>>());
    assert_eq!(read_bytes(&whole).unwrap().samples.len(), 500);
    for len in 12..whole.len() {
        assert!(matches!(read_bytes(&whole[..len]), Err(DataError::Truncated { .. })), "{len} of {}", whole.len());
    }
    let error = read_bytes(&whole[..whole.len() - 100]).unwrap_err().to_string();
    assert!(error.contains("clip.bin is cut off") && error.contains("1000 bytes") && error.contains("900"), "{error}");
}

#[test]
fn other_chunks_are_passed_over_padded_or_not() {
    let plain = pcm16(&[1, 2, 3, 4]);
    let data = plain.len() - 8 - 8;
    for (text, padding) in [(&b"INFOx"[..], 1), (b"INFOxy", 0), (b"INFOx", 0)] {
        let mut bytes = plain[..data].to_vec();
        bytes.extend(b"LIST");
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
        bytes.extend(vec![0; padding]);
        bytes.extend(&plain[data..]);
        assert_eq!(read_bytes(&bytes).unwrap(), read_bytes(&plain).unwrap(), "{} + {padding}", text.len());
    }
}

#[test]
fn what_is_not_sound_is_named() {
    let looks = |bytes: &[u8]| match read_bytes(bytes) {
        Err(DataError::NotAudio { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(looks(b""), "an empty file");
    assert_eq!(looks(b"OggS\0\x02"), "Ogg (Vorbis or Opus)");
    assert_eq!(looks(b"RIFF\x04\0\0\0AVI "), "a RIFF file other than WAV");
    assert_eq!(looks(b"hello"), "text");
    assert_eq!(looks(&[0, 1, 2, 3]), "nothing known here");
    assert!(looks(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(matches!(read("no/such/file.wav"), Err(DataError::Io { action: "read", .. })));
}

#[test]
fn unusable_wav_files_say_why() {
    assert!(matches!(read_bytes(&pcm16(&[])), Err(DataError::Empty { .. })));

    // µ-law telephony, encoding 7.
    let mut telephony = pcm16(&[1, 2]);
    telephony[20] = 7;
    let error = read_bytes(&telephony).unwrap_err();
    assert!(matches!(&error, DataError::Unsupported { .. }) && error.to_string().contains("0x0007"), "{error}");

    let mut streamed = pcm16(&[1, 2]);
    let length = streamed.len() - 8;
    streamed[length..length + 4].fill(0xff);
    let error = read_bytes(&streamed).unwrap_err().to_string();
    assert!(error.contains("does not say how long"), "{error}");

    let mut silent_header = pcm16(&[1, 2]);
    silent_header[22] = 0;
    assert!(matches!(read_bytes(&silent_header), Err(DataError::Malformed { format: "WAV", .. })));

    let not_a_number = wav_bytes(spec(1, 32, hound::SampleFormat::Float), |writer| {
        writer.write_sample(0.0f32).unwrap();
        writer.write_sample(f32::NAN).unwrap();
    });
    assert!(matches!(read_bytes(&not_a_number), Err(DataError::NotFinite { index: 1, .. })));
}

struct Bits(Vec<u8>, u32);

impl Bits {
    fn push(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            let last = self.0.len() - 1;
            self.0[last] |= ((value >> bit & 1) as u8) << (7 - self.1 % 8);
            self.1 += 1;
        }
    }
}

fn crc(bytes: &[u8], polynomial: u16, width: u32) -> u16 {
    let (top, mask) = (1u32 << (width - 1), (1u32 << width) - 1);
    let fold = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte) << (width - 8), |crc, _| {
            (if crc & top == 0 { crc << 1 } else { crc << 1 ^ u32::from(polynomial) }) & mask
        })
    };
    bytes.iter().fold(0, fold) as u16
}

/// A FLAC file of verbatim subframes (RFC 9639), one frame for each block of `[channel][sample]`.
fn flac_bytes(blocks: &[Vec<Vec<i32>>], bits: u32, announced: u64) -> Vec<u8> {
    let channels = blocks[0].len() as u64;
    let block_size = blocks[0][0].len() as u64;
    let mut head = Bits(b"fLaC".to_vec(), 32);
    head.push(0x80, 8);
    head.push(34, 24);
    head.push(block_size << 16 | block_size, 32);
    head.push(0, 48);
    head.push(16_000 << 44 | (channels - 1) << 41 | u64::from(bits - 1) << 36 | announced, 64);
    head.push(0, 64);
    head.push(0, 64);
    let mut file = head.0;
    for (number, block) in blocks.iter().enumerate() {
        let mut frame = Bits(Vec::new(), 0);
        frame.push(0xfff8, 16);
        frame.push(0b0111_0000, 8); // 16-bit block size, rate from the stream's header
        frame.push(channels - 1, 4);
        frame.push(if bits == 16 { 0b100 } else { 0b110 }, 3);
        frame.push(0, 1);
        frame.push(number as u64, 8);
        frame.push(block_size - 1, 16);
        frame.push(u64::from(crc(&frame.0, 0x07, 8)), 8);
        for channel in block {
            frame.push(0b0000_0010, 8);
            channel.iter().for_each(|&sample| frame.push(u64::from(sample as u32), bits));
        }
        frame.push(u64::from(crc(&frame.0, 0x8005, 16)), 16);
        file.extend(frame.0);
    }
    file
}

#[test]
fn flac_is_read_and_mixed_down() {
    for bits in [16, 24] {
        let unit = 1 << (bits - 4);
        let blocks: Vec<_> = (0..3).map(|b| vec![vec![unit * b; 40], vec![unit * (b + 2); 40]]).collect();
        let clip = read_bytes(&flac_bytes(&blocks, bits, 120)).unwrap();
        let expected: Vec<f32> = (0..120).map(|i| (i / 40 + 1) as f32 / 8.0).collect();
        assert_eq!(clip, Clip { samples: expected, rate: 16_000 }, "{bits} bits");
    }
}

#[test]
fn a_flac_file_cut_off_anywhere_is_an_error() {
    let blocks: Vec<_> = (0..3).map(|b| vec![vec![1000 * b; 40]]).collect();
    let whole = flac_bytes(&blocks, 16, 120);
    for len in 4..whole.len() {
        match read_bytes(&whole[..len]).unwrap_err() {
            DataError::Truncated { expected: 120, found, unit: "samples", .. } => assert!(found < 120 && len >= 42),
            DataError::Malformed { .. } => assert!(len < 42, "{len}"),
            other => panic!("{len}: {other}"),
        }
    }
    let mut damaged = whole;
    damaged[100] ^= 1;
    let error = read_bytes(&damaged).unwrap_err().to_string();
    assert!(error.contains("damaged FLAC") && error.contains("CRC"), "{error}");
}

#[test]
fn what_is_written_reads_back_and_clips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.wav");
    std::fs::write(&path, "an older file").unwrap();
    let samples = [0.0, 0.25, -0.5, 1.0, 7.0, -1.0, -3.0, 123.0 / 32_768.0];
    write_wav(&path, &samples, 22_050).unwrap();
    let top = 32_767.0 / 32_768.0;
    let clip = read(&path).unwrap();
    assert_eq!(clip, Clip { samples: vec![0.0, 0.25, -0.5, top, top, -1.0, -1.0, 123.0 / 32_768.0], rate: 22_050 });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is gone");

    assert!(matches!(write_wav(&path, &[0.0, f32::NAN], 8000), Err(DataError::NotFinite { index: 1, .. })));
    assert!(matches!(write_wav(&path, &[0.0], 0), Err(DataError::SampleRate { rate: 0, .. })));
    assert_eq!(read(&path).unwrap(), clip, "a failed write leaves the file alone");
    let nowhere: PathBuf = folder.path().join("missing").join("out.wav");
    assert!(matches!(write_wav(&nowhere, &[0.0], 8000), Err(DataError::Io { action: "write", .. })));
}

fn sine(frequency: f64, rate: u32, len: usize) -> Vec<f32> {
    (0..len).map(|i| (TAU * frequency * i as f64 / f64::from(rate)).sin() as f32 * 0.5).collect()
}

#[test]
fn a_sine_keeps_frequency_amplitude_and_alignment() {
    for (from, to) in [(44_100, 16_000), (48_000, 44_100), (8_000, 16_000), (16_000, 22_050), (192_000, 8_000)] {
        let clip = Clip { samples: sine(440.0, from, from as usize + 77), rate: from };
        let resampled = resample(&clip, to).unwrap();
        let len = (clip.samples.len() as f64 * f64::from(to) / f64::from(from)).round() as usize;
        assert_eq!((resampled.samples.len(), resampled.rate), (len, to));
        // The ends ring against the silence outside.
        let margin = 2048.min(len / 8);
        let expected = sine(440.0, to, len);
        let worst = (margin..len - margin).map(|i| (resampled.samples[i] - expected[i]).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{from} to {to}: {worst}");
    }
}

#[test]
fn what_the_lower_rate_cannot_hold_is_taken_out() {
    let level = |frequency: f64| {
        let clip = Clip { samples: sine(frequency, 16_000, 32_000), rate: 16_000 };
        let resampled = resample(&clip, 8_000).unwrap().samples;
        let middle = &resampled[4_000..12_000];
        (middle.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / middle.len() as f64).sqrt() * 2f64.sqrt()
    };
    assert!((level(3_500.0) - 0.5).abs() < 1e-3, "{}", level(3_500.0));
    assert!(level(4_100.0) < 1e-4, "{}", level(4_100.0));
    assert!(level(7_000.0) < 1e-4, "{}", level(7_000.0));
}

#[test]
fn short_clips_and_odd_rates_resample() {
    for (len, from, to, expected) in
        [(0, 8_000, 16_000, 0), (1, 8_000, 16_000, 2), (10, 44_100, 16_000, 4), (3, 7, 9_973, 4274)]
    {
        let clip = Clip { samples: vec![0.5; len], rate: from };
        assert_eq!(resample(&clip, to).unwrap().samples.len(), expected, "{len} from {from} to {to}");
    }
    let clip = Clip { samples: vec![0.5; 10], rate: 8_000 };
    assert_eq!(resample(&clip, 8_000).unwrap(), clip);
    assert!(matches!(resample(&clip, 0), Err(DataError::SampleRate { rate: 0, .. })));
    assert!(matches!(resample(&clip, MAX_RATE + 1), Err(DataError::SampleRate { .. })));
}
