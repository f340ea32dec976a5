//! The parameters that decide how tokens are drawn, in a form that can be committed to.

/// Sampling parameters in integers, so that two machines write them in the same bytes. Fractions are rounded to
/// thousandths when a request is read, and the model is run with the rounded value: what the receipt commits to
/// is what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Temperature in thousandths, at most 2000; 0 is greedy.
    pub temperature_milli: u32,
    /// Nucleus mass in thousandths, at most 1000; 1000 is all.
    pub top_p_milli: u32,
    /// Seed of the draw, where the request names one.
    pub seed: Option<i64>,
    /// The most tokens to generate, where the request names one.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer, in the order of the request.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature_milli: 1000, top_p_milli: 1000, seed: None, max_tokens: None, stop: Vec::new() }
    }
}

impl Sampling {
    /// Temperature as the model takes it.
    pub fn temperature(&self) -> f32 {
        self.temperature_milli as f32 / 1000.0
    }

    /// Nucleus mass as the model takes it.
    pub fn top_p(&self) -> f32 {
        self.top_p_milli as f32 / 1000.0
    }

    /// The canonical bytes that a receipt commits to: a label; temperature and top_p as 32-bit numbers; seed (64 bits) and
    /// max_tokens (32 bits), each after a byte that says whether it is there, and zero when not; the number of stops
    /// in one byte, and each stop after its length in 32 bits. Big-endian throughout.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = LABEL.to_vec();
        out.extend(self.temperature_milli.to_be_bytes());
        out.extend(self.top_p_milli.to_be_bytes());
        out.push(self.seed.is_some().into());
        out.extend(self.seed.unwrap_or(0).to_be_bytes());
        out.push(self.max_tokens.is_some().into());
        out.extend(self.max_tokens.unwrap_or(0).to_be_bytes());
        out.push(self.stop.len() as u8);
        for stop in &self.stop {
            out.extend((stop.len() as u32).to_be_bytes());
            out.extend_from_slice(stop.as_bytes());
        }
        out
    }
}

const LABEL: &[u8] = b"glassbloom/sampling/v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_do_not_change() {
        let sampling = Sampling {
            temperature_milli: 700,
            top_p_milli: 950,
            seed: Some(-1),
            max_tokens: Some(256),
            stop: vec!["\n".into(), "END".into()],
        };
        let expected = concat!(
            "676c617373626c6f6f6d2f73616d706c696e672f763100",
            "000002bc",
            "000003b6",
            "01",
            "ffffffffffffffff",
            "01",
            "00000100",
            "02",
            "00000001",
            "0a",
            "00000003",
            "454e44"
        );
        assert_eq!(hex::encode(sampling.encode()), expected);
    }

    #[test]
    fn absent_and_zero_differ() {
        let absent = Sampling::default();
        let zero = Sampling { seed: Some(0), ..Sampling::default() };
        assert_ne!(absent.encode(), zero.encode());
        assert_eq!((absent.temperature(), absent.top_p()), (1.0, 1.0));
    }
}
