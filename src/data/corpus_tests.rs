use super::*;

fn clip(value: f32, len: usize, rate: u32) -> Clip {
    Clip { samples: (0..len).map(|i| if i % 2 == 0 { value } else { -value }).collect(), rate }
}

fn lengths(clips: &[Clip]) -> Vec<usize> {
    clips.iter().map(|clip| clip.samples.len()).collect()
}

#[test]
fn clips_are_split_by_seed_into_two_parts_that_make_the_whole() {
    let clips: Vec<_> = (0..40).map(|i| clip(0.5, 100 + i, 8000)).collect();
    let options = |seed| CorpusOptions { valid_fraction: 0.2, seed, ..CorpusOptions::default() };
    let corpus = Corpus::from_clips(clips.clone(), &options(1)).unwrap();
    let (train, valid) = (lengths(&corpus.train), lengths(&corpus.valid));
    assert_eq!((train.len(), valid.len(), corpus.rate), (32, 8, 8000));
    assert!(train.is_sorted() && valid.is_sorted(), "{train:?} {valid:?}");
    let mut all = [train.clone(), valid.clone()].concat();
    all.sort();
    assert_eq!(all, lengths(&clips));
    assert!((corpus.train_seconds() + corpus.valid_seconds() - all.iter().sum::<usize>() as f64 / 8000.0).abs() < 1e-9);

    assert_eq!(lengths(&Corpus::from_clips(clips.clone(), &options(1)).unwrap().valid), valid);
    assert_ne!(lengths(&Corpus::from_clips(clips, &options(2)).unwrap().valid), valid);
}

#[test]
fn each_part_gets_at_least_one_clip() {
    for fraction in [0.001, 0.5, 0.999] {
        let options = CorpusOptions { valid_fraction: fraction, ..CorpusOptions::default() };
        let corpus = Corpus::from_clips(vec![clip(0.5, 10, 8000), clip(0.5, 20, 8000)], &options).unwrap();
        assert_eq!((corpus.train.len(), corpus.valid.len()), (1, 1), "{fraction}");
    }
}

#[test]
fn a_single_clip_is_split_in_time() {
    let samples: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
    let whole = Clip { samples: samples.clone(), rate: 8000 };
    let corpus = Corpus::from_clips(vec![whole], &CorpusOptions::default()).unwrap();
    assert_eq!(corpus.train[0].samples, samples[..950]);
    assert_eq!(corpus.valid[0].samples, samples[950..]);

    let error = Corpus::from_clips(vec![clip(0.5, 1, 8000)], &CorpusOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::NothingToSplit { clips: 1, samples: 1 }), "{error}");
    let error = Corpus::from_clips(Vec::new(), &CorpusOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::NothingToSplit { clips: 0, samples: 0 }), "{error}");
}

#[test]
fn unusable_clips_are_recorded() {
    let broken = Clip { samples: vec![0.0, f32::NAN], rate: 8000 };
    let clips = vec![clip(0.5, 5000, 8000), broken, clip(0.001, 5000, 8000), clip(0.5, 0, 8000), clip(0.5, 6000, 8000)];
    let options = CorpusOptions { trim: Some(0.01), ..CorpusOptions::default() };
    let corpus = Corpus::from_clips(clips, &options).unwrap();
    assert_eq!((corpus.train.len(), corpus.valid.len()), (1, 1));
    let names: Vec<_> = corpus.skipped.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    assert_eq!(names, ["clip 1", "clip 2", "clip 3"]);
    assert!(matches!(corpus.skipped[0].1, DataError::NotFinite { index: 1, .. }));
    assert!(matches!(corpus.skipped[1].1, DataError::Silent { .. }));
    assert!(matches!(corpus.skipped[2].1, DataError::Empty { .. }));
}

#[test]
fn options_out_of_range_are_refused() {
    let clips = || vec![clip(0.5, 10, 8000), clip(0.5, 20, 8000)];
    for fraction in [0.0, 1.0, -0.1, f64::NAN] {
        let options = CorpusOptions { valid_fraction: fraction, ..CorpusOptions::default() };
        assert!(matches!(Corpus::from_clips(clips(), &options), Err(DataError::Option { name: "valid_fraction", .. })));
    }
    for trim in [-0.5, 1.0, f32::NAN] {
        let options = CorpusOptions { trim: Some(trim), ..CorpusOptions::default() };
        assert!(matches!(Corpus::from_clips(clips(), &options), Err(DataError::Option { name: "trim", .. })));
    }
}

#[cfg(not(feature = "audio"))]
#[test]
fn rates_that_differ_need_the_resampler() {
    let clips = vec![clip(0.5, 10, 8000), clip(0.5, 20, 16_000)];
    let error = Corpus::from_clips(clips, &CorpusOptions::default()).unwrap_err();
    assert!(matches!(error, DataError::Resample { from: 16_000, to: 8000, .. }), "{error}");
}

#[cfg(feature = "audio")]
mod files {
    use std::fs;

    use super::super::super::audio::write_wav;
    use super::*;

    fn folder(files: &[(&str, usize, u32)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for &(name, len, rate) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_wav(&path, &clip(0.5, len, rate).samples, rate).unwrap();
        }
        folder
    }

    fn all_lengths(corpus: &Corpus) -> Vec<usize> {
        let mut all = [lengths(&corpus.train), lengths(&corpus.valid)].concat();
        all.sort();
        all
    }

    #[test]
    fn a_folder_is_read_to_any_depth_and_broken_files_are_skipped() {
        let folder = folder(&[("b.wav", 100, 8000), ("a/deep/er.WAV", 200, 8000), ("c.Wav", 300, 8000)]);
        fs::write(folder.path().join("notes.txt"), "not read").unwrap();
        fs::write(folder.path().join("a/broken.flac"), "fLaC and no more").unwrap();
        fs::write(folder.path().join("a/page.wav"), "<html>").unwrap();
        let corpus = Corpus::open(folder.path(), &CorpusOptions::default()).unwrap();
        assert_eq!(all_lengths(&corpus), [100, 200, 300]);
        assert_eq!(corpus.rate, 8000);
        let names: Vec<_> = corpus.skipped.iter().map(|(path, _)| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["broken.flac", "page.wav"]);
        assert!(matches!(corpus.skipped[1].1, DataError::NotAudio { .. }));
    }

    #[test]
    fn rates_that_differ_become_the_most_common_one() {
        let folder = folder(&[("a.wav", 800, 8000), ("b.wav", 800, 8000), ("c.wav", 1600, 16_000)]);
        let corpus = Corpus::open(folder.path(), &CorpusOptions::default()).unwrap();
        assert_eq!((corpus.rate, all_lengths(&corpus)), (8000, vec![800, 800, 800]));
        let options = CorpusOptions { sample_rate: Some(4000), ..CorpusOptions::default() };
        let corpus = Corpus::open(folder.path(), &options).unwrap();
        assert_eq!((corpus.rate, all_lengths(&corpus)), (4000, vec![400, 400, 400]));
        let options = CorpusOptions { sample_rate: Some(0), ..CorpusOptions::default() };
        assert!(matches!(Corpus::open(folder.path(), &options), Err(DataError::SampleRate { rate: 0, .. })));
    }

    #[test]
    fn a_folder_without_sound_says_what_it_found() {
        let empty = tempfile::tempdir().unwrap();
        let error = Corpus::open(empty.path(), &CorpusOptions::default()).unwrap_err();
        assert!(matches!(error, DataError::NothingUsable { seen: 0, first: None, .. }));
        assert!(error.to_string().contains("holds no .wav or .flac file"), "{error}");

        fs::write(empty.path().join("a.wav"), "OggS").unwrap();
        fs::write(empty.path().join("b.wav"), "").unwrap();
        let error = Corpus::open(empty.path(), &CorpusOptions::default()).unwrap_err().to_string();
        assert!(error.contains("all 2 .wav and .flac files") && error.contains("Ogg"), "{error}");

        let missing = empty.path().join("missing");
        assert!(matches!(Corpus::open(missing, &CorpusOptions::default()), Err(DataError::Io { action: "list", .. })));
    }

    #[test]
    fn a_single_file_is_a_corpus() {
        let folder = folder(&[("only.wav", 1000, 8000)]);
        let other_name = folder.path().join("only.bin");
        fs::rename(folder.path().join("only.wav"), &other_name).unwrap();
        let corpus = Corpus::open(&other_name, &CorpusOptions::default()).unwrap();
        assert_eq!((lengths(&corpus.train), lengths(&corpus.valid)), (vec![950], vec![50]));
        fs::write(&other_name, "nothing").unwrap();
        assert!(matches!(Corpus::open(&other_name, &CorpusOptions::default()), Err(DataError::NotAudio { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_back_up_is_followed_once() {
        let folder = folder(&[("a/one.wav", 100, 8000), ("a/two.wav", 200, 8000)]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a"), folder.path().join("b")).unwrap();
        let corpus = Corpus::open(folder.path(), &CorpusOptions::default()).unwrap();
        assert_eq!(all_lengths(&corpus), [100, 200]);
    }
}
