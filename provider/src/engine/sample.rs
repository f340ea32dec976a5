//! Choosing a token from the model's log-probabilities.

use super::Sampling;

/// The choices of one answer.
pub(crate) struct Sampler {
    rule: Sampling,
    state: u64,
}

impl Sampler {
    pub(crate) fn new(rule: Sampling) -> Self {
        let state = rule.seed.unwrap_or_else(|| u64::from_le_bytes(glassbloom_service::random::<8>()));
        Self { rule, state }
    }

    /// The chosen token. `logprobs` has one value for each token and is not empty.
    pub(crate) fn pick(&mut self, logprobs: &[f32]) -> u32 {
        let rule = self.rule;
        // Also what a temperature that is no number gives.
        if !(rule.temperature > 0.0 && rule.temperature.is_finite()) {
            return greedy(logprobs);
        }
        let mut candidates: Vec<(u32, f32)> = (0_u32..)
            .zip(logprobs.iter().copied())
            .filter(|(_, logprob)| *logprob > f32::NEG_INFINITY)
            .collect();
        let limited = rule.top_p > 0.0 && rule.top_p < 1.0;
        if limited || (rule.top_k > 0 && (rule.top_k as usize) < candidates.len()) {
            // Equal ones in the order of tokens, so that an answer can be repeated.
            candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        if limited {
            let total: f32 = candidates.iter().map(|(_, logprob)| logprob.exp()).sum();
            let mut sum = 0.0;
            let kept = candidates
                .iter()
                .take_while(|(_, logprob)| {
                    let wanted = sum < rule.top_p * total;
                    sum += logprob.exp();
                    wanted
                })
                .count();
            candidates.truncate(kept.max(1));
        }
        if rule.top_k > 0 {
            candidates.truncate(rule.top_k as usize);
        }
        let Some(top) = candidates.iter().map(|(_, logprob)| *logprob).max_by(f32::total_cmp) else {
            return greedy(logprobs);
        };
        let weight = |logprob: f32| f64::from((logprob - top) / rule.temperature).exp();
        let total: f64 = candidates.iter().map(|(_, logprob)| weight(*logprob)).sum();
        let mut left = self.uniform() * total;
        for (token, logprob) in &candidates {
            left -= weight(*logprob);
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding may leave a little.
        candidates.last().map_or(0, |(token, _)| *token)
    }

    /// A number in [0, 1), the next of the SplitMix64 sequence.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The most likely token, the first of equal ones, as `argmax` of MLX.
fn greedy(logprobs: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logprob) in (0_u32..).zip(logprobs.iter().copied()) {
        if logprob > best.1 {
            best = (token, logprob);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGPROBS: [f32; 4] = [-2.0, -0.5, f32::NEG_INFINITY, -1.5];

    fn seen(rule: Sampling) -> [u32; 4] {
        let mut sampler = Sampler::new(rule);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[sampler.pick(&LOGPROBS) as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        let mut sampler = Sampler::new(Sampling::default());
        assert_eq!(sampler.pick(&LOGPROBS), 1);
        assert_eq!(sampler.pick(&[-1.0, -0.5, -0.5]), 1);
        let odd = Sampling { temperature: f32::NAN, ..Sampling::default() };
        assert_eq!(Sampler::new(odd).pick(&[f32::NAN, -3.0, -1.0]), 2);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let counts = seen(Sampling { temperature: 1.0, seed: Some(7), ..Sampling::default() });
        let total: f32 = LOGPROBS.iter().map(|l| l.exp()).sum();
        for (count, logprob) in counts.iter().zip(LOGPROBS) {
            let expected = 4000.0 * logprob.exp() / total;
            assert!((*count as f32 - expected).abs() < 120.0, "{counts:?}");
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn limits_cut_the_unlikely() {
        let rule = Sampling { temperature: 2.0, seed: Some(1), ..Sampling::default() };
        let two = seen(Sampling { top_k: 2, ..rule });
        assert!(two[1] > 0 && two[3] > 0 && two[0] == 0, "{two:?}");
        assert_eq!(seen(Sampling { top_p: 0.5, ..rule }), [0, 4000, 0, 0]);
        assert_eq!(seen(Sampling { top_p: 0.01, ..rule }), [0, 4000, 0, 0]);
    }

    #[test]
    fn a_seed_repeats() {
        let rule = Sampling { temperature: 1.0, seed: Some(42), ..Sampling::default() };
        assert_eq!(seen(rule), seen(rule));
    }
}
