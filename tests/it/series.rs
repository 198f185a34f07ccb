//! Tables as training data: what is read, what is refused and with which words, and which rows a window holds.

#![allow(clippy::single_range_in_vec_init, reason = "a run of rows is a range")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use receptive::data::series::{
    ForecastError, LeftOut, Missing, Normalisation, Part, ReadOptions, Series, SeriesError, SeriesParts, SeriesSplit,
    TextColumns, WindowBatch, WindowInputs, WindowOptions, Windows,
};
use receptive::data::{Order, Prefetch};
use receptive::random::Random;
use tempfile::TempDir;

/// A folder with one file.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(name: &str, contents: impl AsRef<[u8]>) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    File { _folder: folder, path }
}

fn read(contents: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Series, SeriesError> {
    Series::read(&file("table.csv", contents).path, options)
}

fn plain(contents: impl AsRef<[u8]>) -> Series {
    read(contents, &ReadOptions::default()).unwrap()
}

fn with(missing: Missing) -> ReadOptions {
    ReadOptions { missing: Some(missing), ..ReadOptions::default() }
}

fn columns(series: &Series) -> Vec<Vec<f64>> {
    (0..series.names().len()).map(|column| (0..series.rows()).map(|row| series.row(row)[column]).collect()).collect()
}

/// The error has all the `words`, the name of the file among them.
#[track_caller]
fn refused(contents: impl AsRef<[u8]>, options: &ReadOptions, words: &[&str]) {
    let text = read(contents, options).unwrap_err().to_string();
    for word in ["table.csv"].iter().chain(words) {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn gz(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

const WEATHER: &str =
    "date,temp,rain\n2020-01-01 00:00:00,1.5,0\n2020-01-01 01:00:00,-2,1e-1\n2020-01-01 02:00:00,+.5,3\n";

#[test]
fn a_table_is_read_whatever_its_delimiter_line_ends_quotes_and_compression() {
    let expected = vec![vec![1.5, -2.0, 0.5], vec![0.0, 0.1, 3.0]];
    let spaces = "temp rain\n1.5 0\n-2 .1\n.5 3";
    let quoted = "\"temp\",\"ra\"\"in\"\n\"1.5\",0\n\n\n -2 , 0.1\r\n\"0.5\",\"3\"\n";
    let variants = [
        WEATHER.to_owned(),
        WEATHER.replace('\n', "\r\n"),
        WEATHER.replace(',', ";"),
        WEATHER.replace(',', "\t"),
        WEATHER.trim_end().to_owned(),
        format!("\u{feff}{WEATHER}"),
        spaces.to_owned(),
    ];
    for text in variants {
        for bytes in [text.as_bytes().to_vec(), gz(text.as_bytes())] {
            let series = plain(bytes);
            assert_eq!(series.names(), ["temp", "rain"], "{text}");
            assert_eq!(columns(&series), expected, "{text}");
            assert_eq!((series.line(0), series.line(2)), (2, 4));
        }
    }
    let series = plain(quoted);
    assert_eq!(series.names(), ["temp", "ra\"in"]);
    assert_eq!(columns(&series), expected);
    assert_eq!([0, 1, 2].map(|row| series.line(row)), [2, 5, 6], "empty lines count");
    let two_members = [gz(&WEATHER.as_bytes()[..40]), gz(&WEATHER.as_bytes()[40..])].concat();
    assert_eq!(columns(&plain(two_members)), expected);
}

#[test]
fn times_are_kept_aside() {
    let series = plain(WEATHER);
    assert_eq!(series.time(1), Some("2020-01-01 01:00:00"));
    assert_eq!(series.time(3), None);
    assert_eq!(series.left_out(), [("date".to_owned(), LeftOut::Time)]);
    // A number with a slip of the pen is text, not a time.
    let series = plain("a,b\n1.5,1\n1.2.3,2\n");
    assert!(matches!(&series.left_out()[0].1, LeftOut::Text { line: 3, text } if text == "1.2.3"));
    assert_eq!(series.time(0), None);
}

#[test]
fn a_header_is_found_or_told() {
    let bare = "1,2\n3,4\n5,6\n";
    let series = plain(bare);
    assert_eq!((series.names(), series.rows(), series.line(0)), (&["c1".to_owned(), "c2".to_owned()][..], 3, 1));
    let told = |header| ReadOptions { header: Some(header), ..ReadOptions::default() };
    let series = read(bare, &told(true)).unwrap();
    assert_eq!((series.names(), series.rows()), (&["1".to_owned(), "2".to_owned()][..], 2));
    assert_eq!(read("a,b\n3,4\n", &told(false)).unwrap_err().to_string().matches("text: line 1").count(), 2);
    // A first row of dates and numbers is no header; nor is one in which everything is missing.
    assert_eq!(plain("2020-01-01,4\n2020-01-02,5\n").rows(), 2);
    assert_eq!(read("NA,NA\n1,2\n", &with(Missing::Drop)).unwrap().rows(), 2);
    // The column of row numbers that pandas writes has no name.
    assert_eq!(plain(",x\n0,4\n1,5\n").names(), ["c1", "x"]);
}

#[test]
fn text_is_dropped_or_one_hot_in_sorted_order() {
    let table = "wind,temp\nNW,1\nSE,2\ncv,3\nNW,4\n";
    let series = plain(table);
    assert_eq!(series.names(), ["temp"]);
    assert!(matches!(&series.left_out()[0].1, LeftOut::Text { line: 2, text } if text == "NW"));
    let one_hot = ReadOptions { text: TextColumns::OneHot, ..ReadOptions::default() };
    let series = read(table, &one_hot).unwrap();
    assert_eq!(series.names(), ["wind=NW", "wind=SE", "wind=cv", "temp"]);
    let [nw, se, cv] = [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    assert_eq!(columns(&series), [&nw[..], &se, &cv, &[1.0, 2.0, 3.0, 4.0]]);
    // A date stays out, and so does what is excluded.
    assert_eq!(read(WEATHER, &one_hot).unwrap().names(), ["temp", "rain"]);
    let excluded = ReadOptions { exclude: vec!["wind".into()], ..one_hot.clone() };
    assert_eq!(read(table, &excluded).unwrap().names(), ["temp"]);

    // Another file, with other texts, in the columns of the first.
    let other = read("temp,wind\n7,cv\n8,NE\n", &one_hot).unwrap();
    let other = other.select(series.names()).unwrap();
    assert_eq!(columns(&other), [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [7.0, 8.0]]);
    assert!(matches!(other.select(&["rain".into()]), Err(SeriesError::UnknownColumn { .. })));

    let many = (0..65).fold("word,x\n".to_owned(), |text, i| text + &format!("w{i},1\n"));
    refused(&many, &one_hot, &["line 66", "column word", "64"]);
    assert_eq!(read(many.replace("w64", "w63"), &one_hot).unwrap().names().len(), 65);
}

#[test]
fn missing_values_need_a_policy() {
    for missing in ["NA", "", "NaN", "nan", "null", "?", "n/a", " "] {
        let table = format!("a,b\n1,1\n2,2\n{missing},3\n4,4\n5,{missing}\n6,6\n");
        refused(&table, &ReadOptions::default(), &["line 4", "column a", "drop", "ffill"]);
        let dropped = read(&table, &with(Missing::Drop)).unwrap();
        assert_eq!(dropped.segments(), [0..2, 3..4, 5..6]);
        assert_eq!((dropped.rows(), dropped.usable_rows()), (6, 4));
        let filled = read(&table, &with(Missing::Ffill)).unwrap();
        assert_eq!(columns(&filled), [[1.0, 2.0, 2.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0, 4.0, 6.0]]);
        assert_eq!(filled.segments(), [0..6]);
        // Only the columns that are used count.
        let excluded = ReadOptions { exclude: vec!["a".into(), "b".into()], ..ReadOptions::default() };
        assert!(matches!(read(&table, &excluded), Err(SeriesError::NoNumericColumn { .. })));
        let excluded = ReadOptions { exclude: vec!["a".into()], ..ReadOptions::default() };
        refused(&table, &excluded, &["line 6", "column b"]);
    }
    // Before a column's first value there is nothing to repeat.
    let late = "a,b\n1,NA\n2,NA\n3,7\nNA,NA\n5,9\n";
    let filled = read(late, &with(Missing::Ffill)).unwrap();
    assert_eq!(filled.segments(), [2..5]);
    assert_eq!([2, 3, 4].map(|row| filled.row(row).to_vec()), [[3.0, 7.0], [3.0, 7.0], [5.0, 9.0]]);
    assert_eq!(read(late, &with(Missing::Drop)).unwrap().segments(), [2..3, 4..5]);
}

#[test]
fn a_bad_table_is_an_error_that_says_where() {
    let none = ReadOptions::default();
    refused("a,b\n1,2\n\n3\n", &none, &["line 4", "1 columns", "line 1 has 2", "column b"]);
    refused("a,b\n1,2\n3,4,hello\n", &none, &["line 3", "3 columns", "line 1 has 2", "hello"]);
    refused("a,b\r\n1,2\r\n\r\n3,4,9\r\n", &none, &["line 4", "3 columns"]);
    refused("a,b,a\n1,2,3\n", &none, &["line 1", "\"a\""]);
    refused("", &none, &["line 1", "no rows"]);
    refused("\n\n", &none, &["no rows"]);
    refused("a,b\n", &none, &["line 2", "no rows"]);
    refused(gz(b""), &none, &["no rows"]);
    refused("day,word\n2020-01-01,hello\n", &none, &["line 2", "day (times)", "word (text", "hello"]);
    refused("a,b\n1,NA\n2,?\n", &with(Missing::Drop), &["lines 2 to 3", "column b", "all values are missing"]);
    refused("a,b\n1,NA\n2,?\n", &none, &["column b", "all values are missing"]);
    refused("a,b\nNA,1\n2,\nNA,3\n", &with(Missing::Drop), &["lines 2 to 4", "column a", "ffill"]);
    refused("a,b\n1,2\n3,inf\n", &none, &["line 3", "column b", "finite"]);
    refused("a,b\n1,2\n3,1e39\n", &none, &["line 3", "column b"]);
    refused(b"a,b\n1,2\n3,\xe9\n", &none, &["line 3", "column 2", "UTF-8"]);
    refused(gz(b"a;b\n1;2\n\xff;3\n"), &none, &["line 3", "column 1", "UTF-8"]);
    let unknown = ReadOptions { exclude: vec!["c".into()], ..ReadOptions::default() };
    refused("a,b\n1,2\n", &unknown, &["line 1", "\"c\"", "a, b"]);
    let missing = Series::read("no/such/table.csv", &none).unwrap_err().to_string();
    assert!(missing.contains("no/such/table.csv"), "{missing}");
}

#[test]
fn a_target_that_is_not_there_or_is_text_is_an_error() {
    let series = plain("a,b\n1,2\n2,x\n3,4\n");
    let error = series.column("c").unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("\"c\"") && error.contains("there are a"), "{error}");
    let error = series.column("b").unwrap_err().to_string();
    assert!(error.contains("line 3, column b: \"x\""), "{error}");
}

#[test]
fn a_cut_or_damaged_gzip_is_an_error_at_every_length() {
    let mut text = "a,b\n".to_owned();
    let mut random = Random::new(1, 2, 3);
    (0..400).for_each(|_| writeln!(text, "{},{}", random.uniform(), random.normal()).unwrap());
    let whole = gz(text.as_bytes());
    assert_eq!(plain(&whole).rows(), 400);
    for length in (10..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let error = read(&whole[..length], &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, SeriesError::CutOff { .. }), "{length}: {error}");
    }
    refused(&whole[..whole.len() / 2], &ReadOptions::default(), &["cut off", "line ", "download"]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    assert!(matches!(read(&damaged, &ReadOptions::default()), Err(SeriesError::Damaged { .. })));
}

/// A series whose first column is its row number and whose second is a hundred times it, negative; `holes` are missing.
fn ramp(rows: usize, holes: &[usize]) -> Series {
    let value = |row: usize| if holes.contains(&row) { f64::NAN } else { row as f64 };
    let first: Vec<f64> = (0..rows).map(value).collect();
    let second = first.iter().map(|value| -100.0 * value).collect();
    let missing = Some(Missing::Drop);
    Series::from_columns("ramp", vec![("up".into(), first), ("down".into(), second)], missing).unwrap()
}

/// Windows of a part as (row `i`), by the definition: every row of the part is tried.
fn by_definition(series: &Series, rows: std::ops::Range<usize>, options: &WindowOptions) -> Vec<usize> {
    let usable = |row: usize| rows.contains(&row) && series.segments().iter().any(|run| run.contains(&row));
    let fits = |i: usize| i >= options.lookback && (i - options.lookback..=i + options.delay).all(usable);
    let mut found: Vec<usize> = Vec::new();
    for i in (0..series.rows()).filter(|&i| fits(i)) {
        // Strides are counted from the first window after a gap.
        let last = found.last().copied();
        let unbroken = |last: usize| (last..=i).all(fits);
        if last.is_none_or(|last| !unbroken(last) || i - last == options.stride) {
            found.push(i);
        }
    }
    found
}

#[test]
fn windows_are_those_of_the_definition() {
    let identity = Normalisation { mean: vec![0.0; 2], deviation: vec![1.0; 2] };
    for (lookback, step, delay, stride) in [(6, 1, 0, 1), (6, 2, 3, 1), (6, 3, 1, 4), (1, 1, 0, 1), (4, 4, 5, 3)] {
        for holes in [&[][..], &[20], &[0, 1, 30, 31, 32, 59], &[7, 15, 23, 31, 40]] {
            for rows in [0..60, 10..50, 3..25] {
                let series = ramp(60, holes);
                let options = WindowOptions { lookback, step, delay, stride };
                let expected = by_definition(&series, rows.clone(), &options);
                let windows = Windows::new(&series, "down", &identity, (Part::Train, rows.clone()), &options);
                let Ok(windows) = windows else {
                    assert!(expected.is_empty(), "{options:?} {holes:?} {rows:?}: {expected:?}");
                    continue;
                };
                let found: Vec<usize> = (0..windows.len()).map(|window| windows.row(window)).collect();
                assert_eq!(found, expected, "{options:?} {holes:?} {rows:?}");
                let mut batch = WindowBatch::default();
                windows.fill(&(0..windows.len()).collect::<Vec<_>>(), &mut batch);
                let steps = lookback / step;
                for (window, (&i, input)) in found.iter().zip(batch.input.chunks(steps * 2)).enumerate() {
                    // samples[j] = data[range(i - lookback, i, step)], targets[j] = data[i + delay][target]
                    let read = (i - lookback..i).step_by(step);
                    let own: Vec<f32> = read.flat_map(|row| [row as f32, -100.0 * row as f32]).collect();
                    assert_eq!(input, own, "{options:?} window {window}");
                    assert_eq!(batch.target[window], -100.0 * (i + delay) as f32);
                    assert_eq!(windows.naive(window), own[own.len() - 1]);
                }
            }
        }
    }
}

#[test]
fn inputs_are_those_of_windows_and_need_no_row_to_forecast() {
    let identity = Normalisation { mean: vec![0.0; 2], deviation: vec![1.0; 2] };
    let options = WindowOptions { lookback: 4, step: 2, delay: 3, stride: 1 };
    let series = ramp(20, &[9]);
    let inputs = WindowInputs::new(&series, "up", &identity, &options).unwrap();
    let windows = Windows::new(&series, "up", &identity, (Part::Whole, 0..20), &options).unwrap();
    let mut batch = WindowBatch::default();
    for window in 0..windows.len() {
        windows.fill(&[window], &mut batch);
        assert_eq!(inputs.before(windows.row(window)).unwrap(), batch.input);
    }
    assert_eq!(inputs.before(20).unwrap(), [16.0, -1600.0, 18.0, -1800.0]);
    assert!(inputs.before(21).is_none() && inputs.before(3).is_none());
    assert!(inputs.before(10).is_none() && inputs.before(13).is_none());
    assert!(inputs.before(9).is_some() && inputs.before(14).is_some());

    // As many rows as a window reads are enough, though there is no row that it could be right about.
    let short = ramp(4, &[]);
    assert!(Windows::new(&short, "up", &identity, (Part::Whole, 0..4), &options).is_err());
    let inputs = WindowInputs::new(&short, "up", &identity, &options).unwrap();
    assert_eq!(inputs.before(4).unwrap(), [0.0, 0.0, 2.0, -200.0]);
}

#[test]
fn parts_follow_each_other_and_share_no_row() {
    let series = ramp(101, &[60]);
    let options = WindowOptions { lookback: 6, step: 2, delay: 4, stride: 1 };
    let cases = [
        (SeriesSplit::default(), [0..51, 51..76, 76..101]),
        (SeriesSplit::Rows([40, 30, 20]), [0..40, 40..70, 70..90]),
        (SeriesSplit::Fractions([0.6, 0.2, 0.15]), [0..61, 61..81, 81..96]),
    ];
    for (split, ranges) in cases {
        assert_eq!(split.ranges(&series).unwrap(), ranges);
        let parts = SeriesParts::new(&series, "up", &split, &options).unwrap();
        for (windows, range) in [&parts.train, &parts.valid, &parts.test].into_iter().zip(ranges) {
            for window in 0..windows.len() {
                assert!(windows.row(window) - 6 >= range.start && windows.target_row(window) < range.end);
            }
            let expected = by_definition(&series, range, &options).len();
            assert_eq!(windows.len(), expected);
        }
    }
    let text = ["0.5,0.25,0.25", "8640, 2880,2880", "0.7,0.2,0.1"].map(|text| text.parse::<SeriesSplit>().unwrap());
    let rows = SeriesSplit::Rows([8640, 2880, 2880]);
    assert_eq!(text, [SeriesSplit::default(), rows, SeriesSplit::Fractions([0.7, 0.2, 0.1])]);
    for wrong in ["", "1,2", "1,2,3,4", "0.9,0.2,0.1", "0.5,0,0.5", "-1,2,3", "nan,0.1,0.1", "a,b,c", "1,0,1"] {
        assert!(matches!(wrong.parse::<SeriesSplit>(), Err(SeriesError::Option { name: "split", .. })), "{wrong}");
    }
    for split in [SeriesSplit::Rows([100, 1, 1]), SeriesSplit::Rows([usize::MAX, 2, 2])] {
        let error = split.ranges(&series).unwrap_err();
        assert!(matches!(error, SeriesError::Split { rows: 101, .. }), "{error}");
        assert!(error.to_string().contains("lines 1 to 101"), "{error}");
    }
}

#[test]
fn only_the_training_part_is_known_to_the_normalisation() {
    let train = [1.0, 2.0, 4.0, f64::NAN, 5.0, 8.0];
    let later = [1000.0, -7.0, 500.0, 12.0];
    let varied: Vec<f64> = train.into_iter().chain(later).collect();
    let constant: Vec<f64> = (0..10).map(|row| if row < 6 { 0.1 } else { f64::from(row) }).collect();
    let columns = vec![("varied".into(), varied), ("constant".into(), constant)];
    let series = Series::from_columns("memory", columns, Some(Missing::Drop)).unwrap();
    let options = WindowOptions { lookback: 1, step: 1, delay: 0, stride: 1 };
    let split = SeriesSplit::Rows([6, 2, 2]);
    let parts = SeriesParts::new(&series, "varied", &split, &options).unwrap();
    let deviation = (9.0f64 + 4.0 + 0.0 + 1.0 + 16.0) / 5.0;
    assert_eq!(parts.normalisation.mean, [4.0, 0.1]);
    assert_eq!(parts.normalisation.deviation, [deviation.sqrt(), 1.0]);
    let mut batch = WindowBatch::new(1, &parts.test);
    parts.test.fill_in_order(0, &mut batch);
    let expected = [(500.0 - 4.0) / deviation.sqrt(), 8.0 - 0.1].map(|value| value as f32);
    assert_eq!(batch.input, expected);
    assert_eq!(batch.target, [((12.0 - 4.0) / deviation.sqrt()) as f32]);
    assert!((parts.test.in_units(batch.target[0]) - 12.0).abs() < 1e-5);
    assert!((parts.normalisation.undo(0, expected[0]) - 500.0).abs() < 1e-4);
    let naive = parts.test.naive_error().scaled(parts.test.deviation());
    assert!((naive.mae - 488.0).abs() < 1e-3 && (naive.rmse - 488.0).abs() < 1e-3 && naive.count == 1, "{naive:?}");
}

#[test]
fn the_naive_error_is_that_of_the_last_value_read() {
    let wave: Vec<f64> =
        (0..300).map(|hour| 20.0 + 5.0 * (f64::from(hour) * 0.26).sin() + f64::from(hour % 7)).collect();
    let series = Series::from_columns("wave", vec![("x".into(), wave.clone())], None).unwrap();
    let options = WindowOptions { lookback: 12, step: 3, delay: 5, stride: 2 };
    let parts = SeriesParts::new(&series, "x", &SeriesSplit::default(), &options).unwrap();
    let rows = (225 + 12..300 - 5).step_by(2);
    let expected = ForecastError::of(rows.map(|i| (wave[i - 3], wave[i + 5])));
    let found = parts.test.naive_error().scaled(parts.test.deviation());
    assert_eq!(found.count, expected.count);
    assert!((found.mae - expected.mae).abs() < 1e-5 && (found.rmse - expected.rmse).abs() < 1e-5, "{found:?}");
}

#[test]
fn too_few_rows_or_impossible_options_are_errors() {
    let table = (0..40).fold("x,y\n".to_owned(), |text, row| text + &format!("{row},1\n"));
    let series = plain(table);
    let options = WindowOptions { lookback: 12, step: 1, delay: 4, stride: 1 };
    let parts = |options: &WindowOptions| SeriesParts::new(&series, "x", &SeriesSplit::Rows([20, 8, 12]), options);
    let error = parts(&options).unwrap_err().to_string();
    for word in ["table.csv", "lines 22 to 29", "column x", "17 rows", "lookback 12", "delay 4", "validation", "has 8"]
    {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    // One row fewer than a window takes, and as many.
    let error = parts(&WindowOptions { lookback: 4, ..options }).unwrap_err();
    assert!(matches!(error, SeriesError::TooFewRows { part: Part::Valid, needed: 9, longest: 8, .. }), "{error}");
    assert_eq!(parts(&WindowOptions { lookback: 3, ..options }).unwrap().valid.len(), 1);
    for (name, options) in [
        ("lookback", WindowOptions { lookback: 0, ..options }),
        ("step", WindowOptions { step: 0, ..options }),
        ("stride", WindowOptions { stride: 0, ..options }),
        ("lookback", WindowOptions { step: 5, ..options }),
    ] {
        assert!(matches!(parts(&options), Err(SeriesError::Option { name: own, .. }) if own == name), "{name}");
    }
    let huge = WindowOptions { lookback: usize::MAX, step: 1, delay: usize::MAX, stride: 1 };
    assert!(matches!(parts(&huge), Err(SeriesError::TooFewRows { part: Part::Train, .. })));
    let foreign = Normalisation { mean: vec![0.0], deviation: vec![1.0] };
    let error = Windows::new(&series, "x", &foreign, (Part::Whole, 0..40), &options).unwrap_err();
    assert!(matches!(error, SeriesError::Option { name: "normalisation", .. }), "{error}");

    let uneven = vec![("a".into(), vec![1.0, 2.0]), ("b".into(), vec![1.0])];
    assert!(matches!(Series::from_columns("m", uneven, None), Err(SeriesError::Ragged { line: 2, found: 1, .. })));
    assert!(matches!(Series::from_columns("m", vec![], None), Err(SeriesError::NoNumericColumn { .. })));
    assert!(matches!(Series::from_columns("m", vec![("a".into(), vec![])], None), Err(SeriesError::Empty { .. })));
}

#[test]
fn an_evaluation_takes_every_window_once_in_order() {
    let series = ramp(60, &[25]);
    let options = WindowOptions { lookback: 4, step: 1, delay: 1, stride: 1 };
    let windows = SeriesParts::new(&series, "up", &SeriesSplit::Rows([40, 10, 10]), &options).unwrap().train;
    for rows in [1, 7, 30, windows.len(), 100] {
        let mut batch = WindowBatch::new(rows, &windows);
        let (mut targets, mut total) = (Vec::new(), 0);
        for index in 0..windows.batches(rows) {
            let count = windows.fill_in_order(index, &mut batch);
            assert!(count > 0 && (count == rows || index + 1 == windows.batches(rows)));
            let weight: f32 = batch.weight.iter().sum();
            assert_eq!((weight, batch.rows()), (count as f32, rows));
            targets.extend_from_slice(&batch.target[..count]);
            total += count;
            let last = windows.target(windows.len() - 1);
            assert!(batch.target[count..].iter().all(|target| *target == last), "the rest repeats the last window");
        }
        let expected: Vec<f32> = (0..windows.len()).map(|window| windows.target(window)).collect();
        assert_eq!((targets, total), (expected, windows.len()));
        assert_eq!(windows.fill_in_order(windows.batches(rows), &mut batch), 0);
        assert!(batch.weight.iter().all(|weight| *weight == 0.0));
    }
}

#[test]
fn a_training_batch_depends_on_seed_and_step_only() {
    let series = ramp(200, &[80]);
    let options = WindowOptions { lookback: 8, step: 2, delay: 1, stride: 1 };
    let windows = SeriesParts::new(&series, "up", &SeriesSplit::default(), &options).unwrap().train;
    let order = |seed| Order::new(seed, windows.len(), true);
    let mut straight = order(9);
    let all: Vec<usize> = (0..3 * windows.len() as u64).flat_map(|step| straight.units(step, 13)).collect();
    let rounds: Vec<&[usize]> = all.chunks(windows.len()).collect();
    for round in &rounds {
        assert_eq!(round.iter().copied().collect::<BTreeSet<_>>(), (0..windows.len()).collect::<BTreeSet<_>>());
        assert!(!round.is_sorted());
    }
    assert_ne!(rounds[0], rounds[1]);
    // A resumed run, which begins with another step, makes the same batches; ahead of time as well.
    let (mut expected, mut found) = (WindowBatch::default(), WindowBatch::default());
    let (mut ahead, own) = (order(9), windows.clone());
    let make = move |step, batch: &mut WindowBatch| {
        own.fill(&ahead.units(step, 13), batch);
        Ok::<(), SeriesError>(())
    };
    let mut prefetch = Prefetch::new(40, vec![WindowBatch::default(); 2], make).unwrap();
    for step in 40..80 {
        windows.fill(&straight.units(step, 13), &mut expected);
        let mut fresh = order(9);
        fresh.units(1000 - step, 13);
        windows.fill(&fresh.units(step, 13), &mut found);
        assert_eq!(found, expected, "step {step}");
        assert_eq!(prefetch.next().unwrap(), (step, &expected));
    }
    let mut other = order(10);
    assert_ne!(other.units(0, 13), straight.units(0, 13));
    other.units(u64::MAX, 13);
}
