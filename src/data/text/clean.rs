//! From text to tokens.

use serde::{Deserialize, Serialize};

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cleaning {
    /// The substitutions of Kim's `clean_str` (`CNN_sentence/process_data.py`), in lower case.
    #[default]
    Kim,
    /// The same, letters as they are: what he uses for the questions of TREC.
    KimCase,
    /// Split at white space, for text that is tokenised already.
    Whitespace,
}

/// Kim's substitutions after the first one, in his order. He writes the brackets and the question mark with a backslash,
/// which Python 2 left in the tokens; it is left out here, so that word vectors of `(`, `)` and `?` are found.
const KIM: [(&str, &str); 11] = [
    ("'s", " 's"),
    ("'ve", " 've"),
    ("n't", " n't"),
    ("'re", " 're"),
    ("'d", " 'd"),
    ("'ll", " 'll"),
    (",", " , "),
    ("!", " ! "),
    ("(", " ( "),
    (")", " ) "),
    ("?", " ? "),
];

impl Cleaning {
    /// The text after all substitutions, one space between tokens.
    pub fn clean(self, text: &str) -> String {
        let substituted = match self {
            Self::Whitespace => text.to_owned(),
            Self::Kim | Self::KimCase => {
                // `[^A-Za-z0-9(),!?\'\`]` becomes a space.
                let keep = |letter: char| letter.is_ascii_alphanumeric() || "(),!?'`".contains(letter);
                let text = text.chars().map(|letter| if keep(letter) { letter } else { ' ' }).collect();
                KIM.iter().fold(text, |text: String, (pattern, with)| text.replace(pattern, with))
            }
        };
        let joined = substituted.split_whitespace().collect::<Vec<_>>().join(" ");
        // Last, as Kim does: `N'T` is no `n't`.
        if self == Self::Kim { joined.to_ascii_lowercase() } else { joined }
    }

    /// The tokens of a text.
    pub fn tokens(self, text: &str) -> Vec<String> {
        self.clean(text).split(' ').filter(|token| !token.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `clean_str` gives in Python, the backslashes left out.
    #[test]
    fn as_kims_regular_expressions() {
        let cases = [
            (
                "the rock is destined to be the 21st century's new \" conan \"",
                "the rock is destined to be the 21st century 's new conan",
            ),
            (
                "I'd say it isn't (quite) right -- we've seen, haven't we?",
                "i 'd say it is n't ( quite ) right we 've seen , have n't we ?",
            ),
            ("They'll win! You're out!!", "they 'll win ! you 're out ! !"),
            ("DON'T don't", "don't do n't"),
            ("café\u{a0}au  lait`", "caf au lait`"),
            ("  ", ""),
            ("...", ""),
            // The first alternative that fits changes what the next one sees.
            ("'sn't", "'s n't"),
        ];
        for (text, expected) in cases {
            assert_eq!(Cleaning::Kim.clean(text), expected, "{text}");
        }
        assert_eq!(Cleaning::KimCase.clean("What's the U.S. (now)?"), "What 's the U S ( now ) ?");
        assert_eq!(Cleaning::Whitespace.clean(" Don't\ttouch — this "), "Don't touch — this");
        assert_eq!(Cleaning::Kim.tokens("a b,c"), ["a", "b", ",", "c"]);
        assert!(Cleaning::Kim.tokens("¿").is_empty());
    }
}
