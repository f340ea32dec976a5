//! Text to tokens and back, a token at a time. The only file that imports `tokenizers`.

use std::path::Path;

use super::LoadError;

/// A run of tokens that is not valid UTF-8 yet is given up after this many: no character is that long.
const LONGEST_CHARACTER: usize = 16;

/// A model's `tokenizer.json`.
pub(crate) struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    pub(crate) fn load(folder: &Path) -> Result<Self, LoadError> {
        let file = folder.join("tokenizer.json");
        tokenizers::Tokenizer::from_file(&file).map(Self).map_err(|error| LoadError::file(&file, error))
    }

    /// The tokens of a rendered chat template, which holds the special ones as text already.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.0.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn token(&self, text: &str) -> Option<u32> {
        self.0.token_to_id(text)
    }

    /// Starts to turn tokens into text.
    pub(crate) fn decoder(&self) -> Decoder<'_> {
        Decoder { tokenizer: self, tokens: Vec::new(), settled: 0, text: String::new() }
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, String> {
        self.0.decode(tokens, false).map_err(|error| error.to_string())
    }
}

/// Turns tokens into text as they come, never half a character.
///
/// A token's text can depend on the one before, and a character can be spread over several. So the last
/// tokens are decoded together with the new one, and only what they gain is new.
pub(crate) struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// How many of `tokens` had their text given out; they are kept as context.
    settled: usize,
    /// The text of the settled ones.
    text: String,
}

impl Decoder<'_> {
    /// The text that the token completes; empty while a character is incomplete.
    pub(crate) fn push(&mut self, token: u32) -> Result<String, String> {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.tokens.len() - self.settled < LONGEST_CHARACTER
        {
            return Ok(String::new());
        }
        self.settle(&text)
    }

    /// The text of a character that was never completed.
    pub(crate) fn finish(mut self) -> Result<String, String> {
        let text = self.tokenizer.decode(&self.tokens)?;
        self.settle(&text)
    }

    fn settle(&mut self, text: &str) -> Result<String, String> {
        let new = text.strip_prefix(&self.text).unwrap_or_default().to_owned();
        self.tokens.drain(..self.settled);
        self.settled = self.tokens.len();
        self.text = self.tokenizer.decode(&self.tokens)?;
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Tokenizer {
        Tokenizer::load(&glassbloom_testdata::vector("model/bloom-tiny-1m")).unwrap()
    }

    #[test]
    fn pieces_make_the_whole() {
        let tokenizer = tiny();
        for text in [
            "Hello there!",
            " a  b\n\nc ",
            "21 °C, ¿qué? 漢字 🦀🦀 e\u{301}",
            "<tool_call>\n{}\n</tool_call>",
        ] {
            let tokens = tokenizer.encode(text).unwrap();
            let mut decoder = tokenizer.decoder();
            let mut pieces = String::new();
            for token in tokens {
                let piece = decoder.push(token).unwrap();
                assert!(!piece.contains(char::REPLACEMENT_CHARACTER), "{piece:?} of {text:?}");
                pieces += &piece;
            }
            assert_eq!(decoder.finish().unwrap(), "");
            assert_eq!(pieces, text);
        }
    }

    #[test]
    fn a_broken_character_comes_at_the_end() {
        let tokenizer = tiny();
        let tokens = tokenizer.encode("🦀").unwrap();
        assert!(tokens.len() > 1);
        let mut decoder = tokenizer.decoder();
        assert_eq!(decoder.push(tokens[0]).unwrap(), "");
        assert_eq!(decoder.finish().unwrap(), "\u{fffd}");
    }

    #[test]
    fn special_tokens_are_one_token() {
        let tokenizer = tiny();
        assert_eq!(tokenizer.encode("<|im_end|>").unwrap(), [tokenizer.token("<|im_end|>").unwrap()]);
        assert_eq!(tokenizer.token("no such token"), None);
    }
}
