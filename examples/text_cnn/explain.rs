//! `text_cnn explain`: which words speak for which class.

use anyhow::{Context as _, Result};
use receptive::Device;
use serde_json::json;

use crate::args::ExplainArgs;
use crate::picture;
use crate::saved::Saved;
use crate::shared::terminal::say;
use crate::shown::{Phrase, Shown};

pub fn explain(args: &ExplainArgs) -> Result<()> {
    let mut saved = Saved::read(&args.model, &Device::select(&args.device)?)?;
    let tokens = saved.cleaning.tokens(&args.text);
    let ids = saved.vocabulary.ids(&tokens);
    let explanations = saved.classifier.explain(&[ids])?;
    let explanation = explanations.first().context("there is no explanation")?;
    let shown = Shown::of(explanation, &tokens, &saved.labels, args.top);
    let unknown: Vec<&String> = tokens.iter().filter(|token| saved.vocabulary.id(token).is_none()).collect();
    if args.json {
        let phrases = shown
            .phrases
            .iter()
            .map(|phrase| json!({ "words": phrase.words, "filters": phrase.filters, "weight": phrase.weight }));
        let words = shown.words.iter().map(|(word, weight)| json!({ "word": word, "weight": weight }));
        let each: serde_json::Map<String, serde_json::Value> =
            saved.labels.iter().cloned().zip(explanation.probabilities.iter().map(|&p| json!(p))).collect();
        let told = json!({
            "text": args.text,
            "label": shown.label,
            "probabilities": each,
            "words": words.collect::<Vec<_>>(),
            "phrases": phrases.collect::<Vec<_>>(),
            "unknown": unknown,
        });
        say(&told.to_string());
    } else {
        say(&format!("{} ({:.1} %)", shown.label, shown.probability * 100.0));
        let widest = shown.phrases.iter().map(|phrase| phrase.words.chars().count()).max().unwrap_or_default();
        for Phrase { words, filters, weight } in &shown.phrases {
            say(&format!("{weight:+8.3}  {words:<widest$}  {filters} filters"));
        }
        if !unknown.is_empty() {
            say(&format!("not known: {}", unknown.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ")));
        }
    }
    if let Some(path) = &args.picture {
        picture::paint_explanation(path, &shown)?;
        if !args.json {
            say(&format!("wrote {}", path.display()));
        }
    }
    Ok(())
}
