use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::data::{SequenceBatch, Sequences};

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn parts(folder: &Path, train: &str, valid: &str, test: &str) {
    fs::write(folder.join("abc.train.txt"), train).unwrap();
    fs::write(folder.join("valid.txt.gz"), gz(valid)).unwrap();
    fs::write(folder.join("test.txt"), test).unwrap();
}

#[test]
fn words_of_all_parts_are_numbered_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), " the cat \n the dog\n", "a cat\n", "the  bird\tsings");
    let corpus = Corpus::read(folder.path(), Unit::Words).unwrap();
    let tokens: Vec<&str> = (0..corpus.vocabulary.len()).filter_map(|id| corpus.vocabulary.token(id as u32)).collect();
    assert_eq!(tokens, ["the", "cat", "<eos>", "dog", "a", "bird", "sings"]);
    assert_eq!(corpus.train, Text { ids: vec![0, 1, 2, 0, 3, 2], lines: vec![3, 6] });
    assert_eq!(corpus.valid.ids, [4, 1, 2]);
    assert_eq!(corpus.test.ids, [0, 5, 6, 2]);
    assert_eq!(
        (corpus.vocabulary.id("bird"), corpus.vocabulary.id("fish"), corpus.vocabulary.token(7)),
        (Some(5), None, None)
    );
}

#[test]
fn characters_leave_out_an_indentation_of_all_lines() {
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), " aé\n b\n", " a\nb", "é");
    let corpus = Corpus::read(folder.path(), Unit::Characters).unwrap();
    assert_eq!(corpus.train.ids, [0, 1, 2, 3, 2]);
    assert_eq!(corpus.train.lines, [3, 5]);
    // There a line has none: the space is a character.
    assert_eq!(corpus.valid.ids, [4, 0, 2, 3]);
    assert_eq!((corpus.test.ids.as_slice(), corpus.vocabulary.len()), (&[1][..], 5));
    let bytes = Corpus::read(folder.path(), Unit::Bytes).unwrap();
    assert_eq!((bytes.test.ids.len(), bytes.train.ids.len(), bytes.vocabulary.len()), (2, 8, 6));
}

#[test]
fn one_file_is_split() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all");
    let text: String = (0..100).map(|line| format!("w{line}\n")).collect();
    fs::write(&file, &text).unwrap();
    let words = Corpus::read(&file, Unit::Words).unwrap();
    assert_eq!([&words.train, &words.valid, &words.test].map(|text| text.lines.len()), [90, 5, 5]);
    assert_eq!(words.vocabulary.token(words.valid.ids[0]), Some("w90"));
    let characters = Corpus::read(&file, Unit::Characters).unwrap();
    let lengths = [&characters.train, &characters.valid, &characters.test].map(|text| text.ids.len());
    assert_eq!(lengths.iter().sum::<usize>(), text.len());
    assert_eq!(lengths, [351, 19, 20]);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let expect = |unit: Unit, words: &[&str]| {
        let error = Corpus::read(path, unit).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    expect(Unit::Words, &["no text for train", "train.txt"]);
    parts(path, "a\n", "b\n", "");
    expect(Unit::Words, &["test.txt", "no text for test"]);
    fs::write(path.join("test.txt"), b"a\nb \xff\n").unwrap();
    expect(Unit::Words, &["test.txt", "line 2: byte 3 is not UTF-8"]);
    expect(Unit::Characters, &["test.txt", "line 2: byte 3 is not UTF-8"]);
    assert!(Corpus::read(path, Unit::Bytes).is_ok());
    fs::write(path.join("train.txt"), "a\n").unwrap();
    expect(Unit::Words, &["abc.train.txt", "train.txt", "both text for train"]);
    fs::remove_file(path.join("train.txt")).unwrap();
    fs::write(path.join("valid.txt.gz"), &gz("some words here")[..12]).unwrap();
    expect(Unit::Words, &["valid.txt.gz"]);
    let one = path.join("one");
    fs::write(&one, "short\n").unwrap();
    assert!(Corpus::read(&one, Unit::Words).unwrap_err().to_string().contains("no text for train"));
    assert!(Corpus::read(path.join("none"), Unit::Words).unwrap_err().to_string().contains("none"));
}

#[test]
fn windows_of_streams_tell_each_token_once() {
    let ids: Vec<u32> = (0..50).collect();
    let streams = Streams::new(&ids, 2, 6, 4).unwrap();
    // Streams of 25 tokens; the first two of each are only read.
    assert_eq!((streams.len(), streams.context(), streams.largest()), (6, 2, (2, 6)));
    let mut batch = SequenceBatch::default();
    let mut told = Vec::new();
    for unit in 0..streams.len() {
        streams.fill(&[unit], &mut batch);
        assert_eq!(
            (batch.ids.len(), batch.target_ids.len(), batch.count),
            (2 * batch.time, 2 * (batch.time - 2), batch.count)
        );
        assert_eq!(batch.ids[0], 4 * unit as u32);
        // What is told follows what is read.
        for row in 0..2 {
            let (read, targets) = (&batch.ids[row * batch.time..], &batch.target_ids[row * (batch.time - 2)..]);
            assert_eq!((targets[0], targets[batch.time - 3]), (read[2] + 1, read[batch.time - 1] + 1));
        }
        told.extend_from_slice(&batch.target_ids);
    }
    assert_eq!(batch.time, 4);
    told.sort_unstable();
    let expected: Vec<u32> = (3..25).chain(28..50).collect();
    assert_eq!(told, expected);
    assert!(Streams::new(&ids, 2, 4, 6).is_none());
    assert!(Streams::new(&ids, 20, 6, 4).is_none());
    assert!(Streams::new(&ids, 0, 6, 4).is_none());
    assert_ne!(streams.fingerprint(), Streams::new(&ids, 2, 7, 4).unwrap().fingerprint());
}

#[test]
fn passages_tell_their_last_word() {
    let folder = tempfile::tempdir().unwrap();
    parts(folder.path(), "a b c d\nx\n\nb a\nd c b a\nc b\n", "a\n", "a\n");
    let corpus = Corpus::read(folder.path(), Unit::Words).unwrap();
    let passages = Passages::new(&corpus.train, &corpus.vocabulary, 8, 100).unwrap();
    let word = |id: u32| corpus.vocabulary.token(id).unwrap();
    let mut batch = SequenceBatch::default();
    passages.fill(&[1], &mut batch);
    assert_eq!((passages.len(), passages.largest(), batch.rows, batch.time, batch.count), (2, (8, 3), 2, 3, 2));
    let read: Vec<&str> = batch.ids.iter().map(|&id| word(id)).collect();
    assert_eq!(read, ["a", "b", "c", "d", "c", "b"]);
    let told: Vec<&str> = batch.target_ids.iter().map(|&id| word(id)).collect();
    assert_eq!(told, ["d", "a"]);
    // The last words of long ones, and not more a step than asked for.
    let short = Passages::new(&corpus.train, &corpus.vocabulary, 1, 2).unwrap();
    assert_eq!((short.len(), short.largest()), (4, (1, 2)));
    short.fill(&[2], &mut batch);
    assert_eq!(batch.ids.iter().map(|&id| word(id)).collect::<Vec<_>>(), ["b", "c"]);
    assert!(Passages::new(&corpus.valid, &corpus.vocabulary, 8, 10).is_none());
}
