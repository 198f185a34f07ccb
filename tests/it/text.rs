//! Labelled text and word vectors from files, good and bad.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use receptive::data::text::{
    Cleaning, LabelledText, TextError, TextFormat, TextOptions, VectorFormat, Vocabulary, WordVectors,
};
use tempfile::TempDir;

fn written(folder: &TempDir, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    path
}

fn read(path: impl AsRef<Path>) -> Result<LabelledText, TextError> {
    LabelledText::read(path, &TextOptions::default())
}

fn pairs(text: &LabelledText) -> Vec<(&str, &str)> {
    let pair = |example: &receptive::data::text::Example| example.class as usize;
    text.examples.iter().map(|example| (text.labels[pair(example)].as_str(), example.text.as_str())).collect()
}

#[test]
fn a_file_for_each_class() {
    let folder = TempDir::new().unwrap();
    written(&folder, "reviews.pos", "good\n\nvery good\r\n");
    written(&folder, "reviews.neg", "bad\n");
    written(&folder, ".hidden", b"\xff");
    let text = read(folder.path()).unwrap();
    assert_eq!(text.labels, ["neg", "pos"]);
    assert_eq!(pairs(&text), [("neg", "bad"), ("pos", "good"), ("pos", "very good")]);
    // Files of different names are classes by their names, which may not come twice.
    written(&folder, "neutral.txt", "so so\n");
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(&error, TextError::OneClassTwice { label, .. } if label == "reviews"), "{error}");
    assert!(error.to_string().contains("reviews.neg") && error.to_string().contains("reviews.pos"), "{error}");
    std::fs::rename(folder.path().join("reviews.pos"), folder.path().join("praise.txt.gz")).unwrap();
    assert_eq!(read(folder.path()).unwrap().labels, ["neutral", "praise", "reviews"]);
}

#[test]
fn a_label_at_the_start_of_each_line() {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, "train.txt", "\u{feff}NUM:dist How far is it ?\nHUM\tWho?\n\nHUM\n");
    let text = read(&path).unwrap();
    assert_eq!(pairs(&text), [("NUM:dist", "How far is it ?"), ("HUM", "Who?"), ("HUM", "")]);
    let labels = Some(vec!["HUM".to_owned(), "LOC".to_owned()]);
    let error =
        LabelledText::read(&path, &TextOptions { labels: labels.clone(), ..TextOptions::default() }).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, TextError::UnknownLabel { line: 1, .. }), "{message}");
    assert!(message.contains("train.txt, line 1") && message.contains("\"NUM:dist\"") && message.contains("HUM, LOC"));
    // With labels that are known, one class is enough, and their order stays.
    let one = written(&folder, "test.txt", "LOC where\n");
    let text = LabelledText::read(&one, &TextOptions { labels, ..TextOptions::default() }).unwrap();
    assert_eq!((text.examples[0].class, text.labels.len()), (1, 2));
}

#[test]
#[cfg(feature = "tables")]
fn tables_with_and_without_a_header() {
    let folder = TempDir::new().unwrap();
    let csv = written(&folder, "a.csv", "id,Text,Label\n1,\"good, \"\"really\"\"\nso\",pos\n2,bad,neg\n");
    assert_eq!(pairs(&read(&csv).unwrap()), [("pos", "good, \"really\"\nso"), ("neg", "bad")]);
    let tsv = written(&folder, "b.tsv", "sentence\tlabel\na \"quote\t1\nb\t0\n");
    assert_eq!(pairs(&read(&tsv).unwrap()), [("1", "a \"quote"), ("0", "b")]);
    let bare = written(&folder, "c.csv", "pos,good\nneg,bad\n");
    assert_eq!(pairs(&read(&bare).unwrap()), [("pos", "good"), ("neg", "bad")]);
    let named = written(&folder, "d.csv", "review,stars\ngood,5\n\nbad,1\nlost\n");
    let options = TextOptions {
        label_column: Some("stars".into()),
        text_column: Some("review".into()),
        ..TextOptions::default()
    };
    let error = LabelledText::read(&named, &options).unwrap_err().to_string();
    assert!(error.contains("d.csv, line 5") && error.contains("1 columns"), "{error}");
    let options = TextOptions { label_column: Some("rating".into()), ..options };
    let error = LabelledText::read(&named, &options).unwrap_err().to_string();
    assert!(error.contains("no column rating") && error.contains("review, stars"), "{error}");
    let none = written(&folder, "e.csv", "text,label\ngood,pos\nbad, \n");
    let error = read(&none).unwrap_err().to_string();
    assert!(error.contains("e.csv, line 3: there is no label"), "{error}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"text,label\ngood,pos\nbad,neg\n").unwrap();
    let gz = written(&folder, "f.csv.gz", gzip.finish().unwrap());
    assert_eq!(pairs(&read(&gz).unwrap()), [("pos", "good"), ("neg", "bad")]);
}

#[test]
fn text_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let broken = written(&folder, "broken.txt", b"a fine\nb caf\xe9 noir\n");
    let error = read(&broken).unwrap_err();
    assert!(matches!(error, TextError::NotUtf8 { line: 2, byte: 6, .. }), "{error}");
    assert!(error.to_string().contains("broken.txt, line 2"), "{error}");
    for empty in ["", "\n  \n"] {
        let empty = written(&folder, "empty.txt", empty);
        assert!(matches!(read(&empty).unwrap_err(), TextError::Empty { .. }));
    }
    let one = written(&folder, "one.txt", "a x\na y\n");
    assert!(matches!(read(&one).unwrap_err(), TextError::OneClass { label, .. } if label == "a"));
    assert!(matches!(read(folder.path().join("none.txt")).unwrap_err(), TextError::Io { .. }));
    // A class without text is not left out silently.
    let classes = TempDir::new().unwrap();
    written(&classes, "pos", "good\n");
    written(&classes, "neg", "");
    assert!(matches!(read(classes.path()).unwrap_err(), TextError::Empty { path } if path.ends_with("neg")));
    let format = Some(TextFormat::LabelledLines);
    let error = LabelledText::read(classes.path(), &TextOptions { format, ..TextOptions::default() }).unwrap_err();
    assert!(matches!(error, TextError::Io { .. }), "{error}");
}

fn vocabulary() -> Vocabulary {
    Vocabulary::from_words(["good", "bad", "café", "unheard"])
}

/// `good` and `café` with other words between them.
const ENTRIES: [(&str, [f32; 3]); 4] =
    [("the", [0.5, 0.5, 0.5]), ("good", [1.0, -2.0, 3.5]), ("café", [0.25, 0.0, -1.0]), ("good", [9.0, 9.0, 9.0])];

fn binary(line_feeds: bool) -> Vec<u8> {
    let mut bytes = b"4 3\n".to_vec();
    for (word, vector) in ENTRIES {
        bytes.extend_from_slice(word.as_bytes());
        bytes.push(b' ');
        vector.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        bytes.extend(line_feeds.then_some(b'\n'));
    }
    bytes
}

fn glove() -> String {
    ENTRIES.iter().map(|(word, [a, b, c])| format!("{word} {a} {b} {c}\n")).collect()
}

#[test]
fn word_vectors_of_every_format() {
    let folder = TempDir::new().unwrap();
    let files = [
        (written(&folder, "w2v.bin", binary(true)), VectorFormat::Word2vecBinary),
        (written(&folder, "gensim.bin", binary(false)), VectorFormat::Word2vecBinary),
        (written(&folder, "w2v.txt", format!("4 3\n{}", glove())), VectorFormat::Word2vecText),
        // A word with a space in it.
        (written(&folder, "glove.txt", glove() + ". . 1 2 3\n"), VectorFormat::Glove),
    ];
    for (path, format) in files {
        for format in [None, Some(format)] {
            let vectors = WordVectors::read(&path, format, &vocabulary(), 5).unwrap();
            assert_eq!((vectors.dimensions, vectors.found, vectors.values.len()), (3, 2, 18), "{}", path.display());
            let row = |id: usize| &vectors.values[id * 3..][..3];
            assert_eq!(row(0), [0.0; 3]);
            assert_eq!(row(1), [0.0; 3]);
            assert_eq!(row(2), [1.0, -2.0, 3.5]);
            assert_eq!(row(4), [0.25, 0.0, -1.0]);
            let random = WordVectors::random(&vocabulary(), 3, 5);
            for id in [3, 5] {
                assert_eq!(row(id), &random.values[id * 3..][..3]);
                assert!(row(id).iter().all(|value| value.abs() < 0.25 && *value != 0.0));
            }
        }
    }
}

#[test]
fn vectors_that_are_cut_short_or_wrong_are_named() {
    let folder = TempDir::new().unwrap();
    let whole = binary(false);
    let fails = |bytes: &[u8], format: Option<VectorFormat>, expected: &[&str]| {
        let path = written(&folder, "vectors", bytes);
        let error = WordVectors::read(&path, format, &vocabulary(), 0).unwrap_err().to_string();
        assert!(expected.iter().all(|expected| error.contains(expected)), "{error}: {expected:?}");
    };
    let binary = Some(VectorFormat::Word2vecBinary);
    // Within the last vector, within its word, and after an entry.
    fails(&whole[..whole.len() - 1], binary, &["vectors, entry 4 of 4", "ends within it"]);
    fails(&whole[..whole.len() - 14], binary, &["entry 4 of 4"]);
    fails(&whole[..whole.len() - 17], binary, &["entry 4 of 4"]);
    fails(b"4 0\n", binary, &["line 1", "COUNT DIMENSIONS"]);
    fails(b"good 1 2\n", binary, &["line 1", "COUNT DIMENSIONS"]);
    fails(&[&b"1 3\ngood "[..], &[0xff; 12]].concat(), binary, &["entry 1 of 1", "not finite"]);
    fails(&[&b"1 3\n"[..], &[b'x'; 9000]].concat(), binary, &["entry 1 of 1", "no word"]);
    let text = Some(VectorFormat::Word2vecText);
    fails(format!("5 3\n{}", glove()).as_bytes(), text, &["line 5", "after 4 of 5 entries"]);
    fails(b"2 3\ngood 1 2 3\nbad 1 2\n", text, &["vectors, line 3", "2 numbers where 3"]);
    fails(b"good 1 2 3\nbad 1 2\n", None, &["line 2", "2 numbers where 3"]);
    fails(b"good 1 2 3\nbad 1 2 x\n", None, &["line 2", "\"x\" is not a finite number"]);
    fails(b"good 1 nan 3\n", None, &["line 1", "\"nan\""]);
    fails(b"good\n", None, &["line 1", "not a line of a word"]);
    fails(b"", None, &["the file is empty"]);
    fails(b"good 1 2\nb\xff 1 2\n", None, &["vectors, line 2", "UTF-8"]);
}

#[test]
fn tokens_become_ids() {
    let sentences: Vec<Vec<String>> =
        ["It's good!", "not good"].iter().map(|text| Cleaning::Kim.tokens(text)).collect();
    let vocabulary = Vocabulary::build(sentences.iter().map(Vec::as_slice), 1);
    assert!(vocabulary.words().iter().eq(["good", "!", "'s", "it", "not"]));
    assert_eq!(vocabulary.ids(&Cleaning::Kim.tokens("GOOD, good!")), [2, Vocabulary::UNKNOWN, 2, 3]);
}
