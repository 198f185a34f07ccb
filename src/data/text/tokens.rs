//! Tokens and their numbers.

use std::collections::HashMap;
use std::sync::Arc;

/// Words, characters or bytes, numbered in the order in which they first come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    tokens: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
}

impl Tokens {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(AsRef::as_ref)
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// All tokens, by their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tokens.iter().map(AsRef::as_ref)
    }

    /// The id of a token, a new one if it has none yet.
    pub fn add(&mut self, token: &str) -> u32 {
        if let Some(id) = self.id(token) {
            return id;
        }
        let (id, token) = (self.tokens.len() as u32, Arc::<str>::from(token));
        self.tokens.push(Arc::clone(&token));
        self.ids.insert(token, id);
        id
    }
}
