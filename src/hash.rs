//! A cheap hash that tells files and data apart; no defence against malice.

/// FNV-1a with 64 bits (Fowler, Noll and Vo). Any change of a single byte changes the hash.
#[derive(Debug, Clone)]
pub(crate) struct Hash(u64);

impl Hash {
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// A text with its length, so that two texts in a row can't be mistaken for other two.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(&(text.len() as u64).to_le_bytes()).bytes(text.as_bytes())
    }

    pub fn value(&self) -> u64 {
        self.0
    }

    /// 16 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test suite of the hash's authors.
    #[test]
    fn known_answers() {
        assert_eq!(Hash::new().hex(), "cbf29ce484222325");
        assert_eq!(Hash::new().bytes(b"a").hex(), "af63dc4c8601ec8c");
        assert_eq!(Hash::new().bytes(b"foobar").hex(), "85944171f73967e8");
        assert_ne!(Hash::new().text("ab").text("c").hex(), Hash::new().text("a").text("bc").hex());
    }
}
