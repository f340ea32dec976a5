//! The dense Qwen3 architecture.
//!
//! Built from plain operations. MLX can compile several into one, but on processors it does so by running a
//! C++ compiler and loading what that wrote to a folder anyone can write to: code from outside, in the process
//! that holds the keys.

use std::path::Path;

use mlx_rs::error::Exception;
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, rms_norm, rope, scaled_dot_product_attention};
use mlx_rs::ops::indexing::{IndexOp, TryIndexMutOp};
use mlx_rs::{Array, Dtype, ops, transforms};
use serde::Deserialize;
use serde_json::Value;

use super::LoadError;
use super::weights::{Matrix, Precision, Weights};

/// A cache grows by this many tokens at a time.
const CACHE_STEP: i32 = 256;

/// What `config.json` says, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
struct Config {
    hidden_size: i32,
    intermediate_size: i32,
    num_hidden_layers: usize,
    num_attention_heads: i32,
    num_key_value_heads: i32,
    head_dim: i32,
    rms_norm_eps: f32,
    #[serde(default)]
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_scaling: Option<Value>,
    /// Newer files have the two settings above in here.
    #[serde(default)]
    rope_parameters: Option<Value>,
    vocab_size: i32,
    max_position_embeddings: u32,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
}

impl Config {
    /// The base and the scale of the rotary position embedding.
    fn rope(&self) -> Result<(f32, f32), LoadError> {
        let nested = self.rope_parameters.as_ref();
        let theta = self.rope_theta.or_else(|| Some(nested?["rope_theta"].as_f64()? as f32));
        let theta =
            theta.ok_or_else(|| LoadError::Unsupported("a config.json without rope_theta".to_owned()))?;
        let Some(scaling) = self.rope_scaling.as_ref().or(nested) else { return Ok((theta, 1.0)) };
        let kind = scaling["type"].as_str().or_else(|| scaling["rope_type"].as_str()).unwrap_or("default");
        match (kind, scaling["factor"].as_f64()) {
            ("default", _) => Ok((theta, 1.0)),
            ("linear", Some(factor)) if factor > 0.0 => Ok((theta, 1.0 / factor as f32)),
            _ => Err(LoadError::Unsupported(format!("{kind} scaling of positions"))),
        }
    }
}

struct Layer {
    attention_norm: Array,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    query_norm: Array,
    key_norm: Array,
    output: Matrix,
    mlp_norm: Array,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// A loaded model.
pub(crate) struct Qwen3 {
    config: Config,
    rope_base: f32,
    rope_scale: f32,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Array,
    /// Nothing when the embedding serves for the output as well.
    head: Option<Matrix>,
    bits: Option<u8>,
}

impl Qwen3 {
    pub(crate) fn load(folder: &Path, config: &Value, precision: Precision) -> Result<Self, LoadError> {
        let family = config["model_type"].as_str().unwrap_or("a model without model_type");
        if family != "qwen3" {
            return Err(LoadError::Unsupported(family.to_owned()));
        }
        let mut weights = Weights::open(folder, config, precision)?;
        let file = folder.join("config.json");
        let config = Config::deserialize(config).map_err(|error| LoadError::file(&file, error))?;
        if config.attention_bias || config.use_sliding_window {
            return Err(LoadError::Unsupported("attention with biases or a sliding window".to_owned()));
        }
        let sizes =
            [config.hidden_size, config.intermediate_size, config.num_attention_heads, config.head_dim];
        if sizes.iter().any(|size| *size < 1)
            || config.num_key_value_heads < 1
            || config.num_attention_heads % config.num_key_value_heads != 0
        {
            return Err(LoadError::file(&file, "its sizes do not fit together"));
        }
        let (rope_base, rope_scale) = config.rope()?;

        let (hidden, inner, head) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (heads, shared) = (config.num_attention_heads * head, config.num_key_value_heads * head);
        let embedding = weights.matrix("model.embed_tokens", config.vocab_size, hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|number| {
                let name = |part: &str| format!("model.layers.{number}.{part}");
                Ok(Layer {
                    attention_norm: weights.plain(&name("input_layernorm"), &[hidden])?,
                    query: weights.matrix(&name("self_attn.q_proj"), heads, hidden)?,
                    key: weights.matrix(&name("self_attn.k_proj"), shared, hidden)?,
                    value: weights.matrix(&name("self_attn.v_proj"), shared, hidden)?,
                    query_norm: weights.plain(&name("self_attn.q_norm"), &[head])?,
                    key_norm: weights.plain(&name("self_attn.k_norm"), &[head])?,
                    output: weights.matrix(&name("self_attn.o_proj"), hidden, heads)?,
                    mlp_norm: weights.plain(&name("post_attention_layernorm"), &[hidden])?,
                    gate: weights.matrix(&name("mlp.gate_proj"), inner, hidden)?,
                    up: weights.matrix(&name("mlp.up_proj"), inner, hidden)?,
                    down: weights.matrix(&name("mlp.down_proj"), hidden, inner)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        let norm = weights.plain("model.norm", &[hidden])?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(weights.matrix("lm_head", config.vocab_size, hidden)?),
        };
        let bits = weights.bits();
        let model = Self { config, rope_base, rope_scale, embedding, layers, norm, head, bits };
        // Reads the files now, so that a damaged one is found now.
        transforms::eval(model.tensors()).map_err(|error| LoadError::file(folder, error))?;
        Ok(model)
    }

    pub(crate) const fn context_tokens(&self) -> u32 {
        self.config.max_position_embeddings
    }

    pub(crate) const fn bits(&self) -> Option<u8> {
        self.bits
    }

    /// How many weights there are, counted by the shapes, so that a packed one counts as itself.
    pub(crate) fn parameters(&self) -> u64 {
        let count = |number: i32| u64::try_from(number).unwrap_or_default();
        let (hidden, inner, head) = (
            count(self.config.hidden_size),
            count(self.config.intermediate_size),
            count(self.config.head_dim),
        );
        let heads = count(self.config.num_attention_heads) * head;
        let shared = count(self.config.num_key_value_heads) * head;
        let layer = 2 * hidden * (heads + shared) + 3 * hidden * inner + 2 * hidden + 2 * head;
        let vocabularies = if self.head.is_some() { 2 } else { 1 };
        vocabularies * count(self.config.vocab_size) * hidden + self.layers.len() as u64 * layer + hidden
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache { read: 0, layers: self.layers.iter().map(|_| (None, None)).collect() }
    }

    /// Reads tokens into the cache.
    pub(crate) fn read(&self, tokens: &[u32], cache: &mut Cache) -> Result<(), Exception> {
        self.hidden(tokens, cache)?;
        transforms::eval(cache.layers.iter().flat_map(|(keys, values)| keys.iter().chain(values)))
    }

    /// Reads tokens into the cache and gives the log-probabilities of the one that comes next.
    ///
    /// Computed in the model's precision and subtracted there, as `mlx-lm` does: otherwise two tokens that
    /// are equally likely after rounding would be told apart, and the answers would differ.
    pub(crate) fn next(&self, tokens: &[u32], cache: &mut Cache) -> Result<Vec<f32>, Exception> {
        let hidden = self.hidden(tokens, cache)?;
        let last = tokens.len() as i32 - 1;
        let hidden =
            rms_norm(hidden.index((.., last..=last, ..)), Some(&self.norm), self.config.rms_norm_eps)?;
        let logits = self.head.as_ref().unwrap_or(&self.embedding).apply(&hidden)?;
        let logprobs = ops::subtract(&logits, &ops::logsumexp(&logits, true)?)?.as_dtype(Dtype::Float32)?;
        logprobs.eval()?;
        logprobs.to_vec_exact::<f32>().map_err(|error| Exception::custom(error.to_string()))
    }

    fn hidden(&self, tokens: &[u32], cache: &mut Cache) -> Result<Array, Exception> {
        let config = &self.config;
        let length = tokens.len() as i32;
        let read = cache.read;
        let scale = (config.head_dim as f32).powf(-0.5);
        let heads = |x: Array, count: i32| x.reshape(&[1, length, count, config.head_dim]);
        let turn = |x: Array| {
            let x = x.transpose_axes(&[0, 2, 1, 3])?;
            rope(x, config.head_dim, false, self.rope_base, self.rope_scale, read, None)
        };
        let mut x = self.embedding.rows(&Array::from_slice(tokens, &[1, length]))?;
        for (layer, (keys, values)) in self.layers.iter().zip(&mut cache.layers) {
            let normed = rms_norm(&x, Some(&layer.attention_norm), config.rms_norm_eps)?;
            let query = heads(layer.query.apply(&normed)?, config.num_attention_heads)?;
            let key = heads(layer.key.apply(&normed)?, config.num_key_value_heads)?;
            let value = heads(layer.value.apply(&normed)?, config.num_key_value_heads)?;
            let query = turn(rms_norm(query, Some(&layer.query_norm), config.rms_norm_eps)?)?;
            let key = turn(rms_norm(key, Some(&layer.key_norm), config.rms_norm_eps)?)?;
            let key = append(keys, &key, read)?;
            let value = append(values, &value.transpose_axes(&[0, 2, 1, 3])?, read)?;
            let mask = (length > 1).then_some(Mask::Causal);
            let seen = scaled_dot_product_attention(query, key, value, scale, mask, None)?;
            let seen = seen.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, length, -1])?;
            x = ops::add(&x, &layer.output.apply(&seen)?)?;

            let normed = rms_norm(&x, Some(&layer.mlp_norm), config.rms_norm_eps)?;
            let gate = layer.gate.apply(&normed)?;
            // silu, written out: the one in mlx_rs::nn is compiled.
            let gate = ops::multiply(&gate, &ops::sigmoid(&gate)?)?;
            let inner = ops::multiply(&gate, &layer.up.apply(&normed)?)?;
            x = ops::add(&x, &layer.down.apply(&inner)?)?;
        }
        cache.read += length;
        Ok(x)
    }

    fn tensors(&self) -> Vec<&Array> {
        let mut tensors = self.embedding.tensors();
        for layer in &self.layers {
            let Layer {
                attention_norm,
                query,
                key,
                value,
                query_norm,
                key_norm,
                output,
                mlp_norm,
                gate,
                up,
                down,
            } = layer;
            tensors.extend([attention_norm, query_norm, key_norm, mlp_norm]);
            for matrix in [query, key, value, output, gate, up, down] {
                tensors.extend(matrix.tensors());
            }
        }
        tensors.push(&self.norm);
        if let Some(head) = &self.head {
            tensors.extend(head.tensors());
        }
        tensors
    }
}

/// What the model remembers of the tokens it has read: keys and values for each layer, with room for more.
pub(crate) struct Cache {
    read: i32,
    layers: Vec<(Option<Array>, Option<Array>)>,
}

/// Writes `new` behind the first `read` tokens of `buffer`, and gives all of them.
fn append(buffer: &mut Option<Array>, new: &Array, read: i32) -> Result<Array, Exception> {
    let &[batch, heads, length, width] = new.shape() else {
        return Err(Exception::custom("keys and values have four dimensions"));
    };
    let end = read + length;
    let room = buffer.as_ref().map_or(0, |array| array.dim(2));
    let mut array = match buffer.take() {
        Some(array) if end <= room => array,
        old => {
            let grow = (end - room + CACHE_STEP - 1) / CACHE_STEP * CACHE_STEP;
            let fresh = ops::zeros_dtype(&[batch, heads, grow, width], new.dtype())?;
            match old {
                None => fresh,
                Some(old) => ops::concatenate(&[old, fresh], 2)?,
            }
        }
    };
    array.try_index_mut((.., .., read..end, ..), new)?;
    let all = array.index((.., .., 0..end, ..));
    *buffer = Some(array);
    Ok(all)
}
