//! An explanation as people see it.

use receptive::train::Explanation;

/// Words with what they add to the class that is told, over what they add to the others on average.
pub struct Phrase {
    pub words: String,
    pub filters: usize,
    pub weight: f32,
}

/// What is shown of an explanation.
pub struct Shown {
    pub label: String,
    pub probability: f32,
    /// Each word with its share of what is found at it.
    pub words: Vec<(String, f32)>,
    /// Largest first, whichever way they speak.
    pub phrases: Vec<Phrase>,
}

impl Shown {
    pub fn of(explanation: &Explanation, tokens: &[String], labels: &[String], top: usize) -> Self {
        let class = explanation.class();
        let others = labels.len().saturating_sub(1).max(1) as f32;
        let weight = |contributions: &[f32]| {
            let own = contributions[class];
            own - (contributions.iter().sum::<f32>() - own) / others
        };
        let mut words: Vec<(String, f32)> = tokens.iter().map(|token| (token.clone(), 0.0)).collect();
        let mut phrases = Vec::new();
        for ngram in &explanation.ngrams {
            let (weight, span) = (weight(&ngram.contributions), ngram.start..ngram.end);
            let each = weight / span.len().max(1) as f32;
            words[span.clone()].iter_mut().for_each(|(_, sum)| *sum += each);
            phrases.push(Phrase { words: tokens[span].join(" "), filters: ngram.filters, weight });
        }
        phrases.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        phrases.truncate(top);
        Self { label: labels[class].clone(), probability: explanation.probabilities[class], words, phrases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use receptive::train::Ngram;

    #[test]
    fn weights_are_shared_by_the_words_of_a_phrase() {
        let ngram = |start, end, contributions| Ngram { start, end, filters: 1, contributions };
        let explanation = Explanation {
            probabilities: vec![0.2, 0.7, 0.1],
            bias: vec![0.0; 3],
            ngrams: vec![ngram(0, 2, vec![0.5, 1.0, -0.5]), ngram(1, 2, vec![3.0, 0.0, 1.0])],
        };
        let [tokens, labels] = [["good", "bad", "so"], ["a", "b", "c"]].map(|words| words.map(str::to_owned));
        let shown = Shown::of(&explanation, &tokens, &labels, 1);
        assert_eq!((shown.label.as_str(), shown.probability), ("b", 0.7));
        assert_eq!(shown.words.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [0.5, -1.5, 0.0]);
        assert_eq!((shown.phrases.len(), shown.phrases[0].words.as_str(), shown.phrases[0].weight), (1, "bad", -2.0));
    }
}
