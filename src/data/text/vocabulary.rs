//! Words and their numbers.

use std::collections::HashMap;

use super::Tokens;

/// The words that a model knows, numbered: 0 stands for padding, 1 for every word that is not known, words follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    words: Tokens,
}

impl Vocabulary {
    /// What fills short sentences up: no word, and zero in every table of vectors.
    pub const PADDING: u32 = 0;
    /// Every word that is not known.
    pub const UNKNOWN: u32 = 1;
    /// Ids before that of the first word.
    pub const RESERVED: usize = 2;

    /// The words that come at least `min_count` times in sentences: those that come most often first, equals in alphabetical order.
    pub fn build<'a>(sentences: impl IntoIterator<Item = &'a [String]>, min_count: usize) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for word in sentences.into_iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let mut counted: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= min_count).collect();
        counted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        Self::from_words(counted.into_iter().map(|(word, _)| word))
    }

    /// These words, in this order; what comes twice has its first number.
    pub fn from_words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Self {
        let mut tokens = Tokens::default();
        for word in words {
            tokens.add(word.as_ref());
        }
        Self { words: tokens }
    }

    /// Ids: the words, the padding and the unknown one.
    pub fn len(&self) -> usize {
        self.words.len() + Self::RESERVED
    }

    /// Whether there are no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words, without the padding and the unknown one: word `i` has the id `i + RESERVED`.
    pub fn words(&self) -> &Tokens {
        &self.words
    }

    /// The id of a word, if it is known.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.words.id(word).map(|id| id + Self::RESERVED as u32)
    }

    /// The ids of a sentence.
    pub fn ids(&self, sentence: &[String]) -> Vec<u32> {
        sentence.iter().map(|word| self.id(word).unwrap_or(Self::UNKNOWN)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_by_how_often_they_come() {
        let sentence = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let sentences = [sentence("b a c a"), sentence("b a d")];
        let vocabulary = Vocabulary::build(sentences.iter().map(Vec::as_slice), 1);
        assert!(vocabulary.words().iter().eq(["a", "b", "c", "d"]));
        assert_eq!((vocabulary.len(), vocabulary.id("a"), vocabulary.id("x")), (6, Some(2), None));
        assert_eq!(vocabulary.ids(&sentence("d x a")), [5, Vocabulary::UNKNOWN, 2]);
        let often = Vocabulary::build(sentences.iter().map(Vec::as_slice), 2);
        assert!(often.words().iter().eq(["a", "b"]));
        assert_eq!(Vocabulary::from_words(vocabulary.words().iter()), vocabulary);
        assert!(Vocabulary::build([], 1).is_empty());
        assert_eq!(Vocabulary::from_words(["x", "x"]).len(), 3);
    }
}
