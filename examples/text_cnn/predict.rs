//! `text_cnn predict`: a line of the standard input, a line of the standard output.

use std::io::{BufRead as _, BufReader, Write as _};

use anyhow::{Context as _, Result, anyhow};
use receptive::Device;
use serde_json::{Map, Value, json};

use crate::args::PredictArgs;
use crate::saved::Saved;

/// Sentences at a time.
const BATCH: usize = 64;

pub fn predict(args: &PredictArgs) -> Result<()> {
    let mut saved = Saved::read(&args.model, &Device::select(&args.device)?)?;
    let mut input = BufReader::new(std::io::stdin());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut line = 0;
    loop {
        let (mut texts, mut failure) = (Vec::new(), None);
        // What is there is answered before more is waited for.
        while texts.len() < BATCH && (texts.is_empty() || input.buffer().contains(&b'\n')) {
            let mut bytes = Vec::new();
            if input.read_until(b'\n', &mut bytes).context("standard input")? == 0 {
                break;
            }
            line += 1;
            let Ok(text) = String::from_utf8(bytes) else {
                failure = Some(anyhow!("standard input, line {line}: not UTF-8 text; convert it, such as with iconv"));
                break;
            };
            texts.push(text.trim_end_matches(['\n', '\r']).to_owned());
        }
        if texts.is_empty() {
            return failure.map_or(Ok(()), Err);
        }
        let ids: Vec<Vec<u32>> = texts.iter().map(|text| saved.vocabulary.ids(&saved.cleaning.tokens(text))).collect();
        let all = saved.classifier.probabilities(&ids)?;
        for (text, probabilities) in texts.iter().zip(&all) {
            let written = writeln!(output, "{}", told(&saved.labels, probabilities, args.json.then_some(text)));
            if written.is_err() {
                // Nobody reads it any more.
                return Ok(());
            }
        }
        if output.flush().is_err() {
            return Ok(());
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
}

/// The label and the probability of each; as JSON with the text.
fn told(labels: &[String], probabilities: &[f32], text: Option<&String>) -> String {
    let largest = (0..labels.len()).max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)));
    let label = largest.map_or("", |class| &labels[class]);
    match text {
        Some(text) => {
            let each: Map<String, Value> =
                labels.iter().cloned().zip(probabilities.iter().map(|&p| json!(p))).collect();
            json!({ "text": text, "label": label, "probabilities": each }).to_string()
        }
        None => {
            let each = labels.iter().zip(probabilities).map(|(label, p)| format!("{label} {p:.4}"));
            format!("{label}\t{}", each.collect::<Vec<_>>().join("\t"))
        }
    }
}
