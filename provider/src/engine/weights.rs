//! A model's weights: the files they lie in, and the two kinds of matrix.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, ops};
use serde_json::Value;

use super::LoadError;

/// How weights are rounded when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are stored. Right for graphics processors.
    AsStored,
    /// To 32 bits. Right for x86 processors, where MLX computes with 16-bit numbers one at a time. Quantised
    /// weights stay quantised; what they are multiplied with has 32 bits.
    Float32,
}

/// The tensors of a model that are not taken yet.
pub(crate) struct Weights {
    folder: PathBuf,
    tensors: HashMap<String, Array>,
    quantization: Value,
    precision: Precision,
}

impl Weights {
    /// Opens the `safetensors` files in `folder`: those its index names, else every `model*.safetensors`.
    pub(crate) fn open(folder: &Path, config: &Value, precision: Precision) -> Result<Self, LoadError> {
        let mut tensors = HashMap::new();
        for file in files(folder)? {
            tensors.extend(Array::load_safetensors(&file).map_err(|error| LoadError::file(&file, error))?);
        }
        // mlx-lm writes both names; transformers has its own notion of the second.
        let quantization = config["quantization"].clone();
        let mode = quantization["mode"].as_str().unwrap_or("affine");
        if mode != "affine" {
            return Err(LoadError::Unsupported(format!("{mode} quantisation")));
        }
        if quantization.is_null() && config["quantization_config"]["quant_method"].is_string() {
            return Err(LoadError::Unsupported("quantisation by other software than MLX".to_owned()));
        }
        Ok(Self { folder: folder.to_owned(), tensors, quantization, precision })
    }

    /// Bits of most quantised weights.
    pub(crate) fn bits(&self) -> Option<u8> {
        self.quantization["bits"].as_u64().and_then(|bits| u8::try_from(bits).ok())
    }

    /// A vector or a matrix that is not quantised.
    pub(crate) fn plain(&mut self, name: &str, shape: &[i32]) -> Result<Array, LoadError> {
        let tensor = self.take(&format!("{name}.weight"))?;
        if tensor.shape() != shape {
            let reason = format!("{name} has the shape {:?}, but config.json says {shape:?}", tensor.shape());
            return Err(LoadError::file(&self.folder, reason));
        }
        self.round(tensor)
    }

    /// A matrix with `rows` outputs and `columns` inputs.
    pub(crate) fn matrix(&mut self, name: &str, rows: i32, columns: i32) -> Result<Matrix, LoadError> {
        let Some(scales) = self.tensors.remove(&format!("{name}.scales")) else {
            return self.plain(name, &[rows, columns]).map(Matrix::Plain);
        };
        let biases = self.take(&format!("{name}.biases"))?;
        let weight = self.take(&format!("{name}.weight"))?;
        // A matrix can have its own setting.
        let number =
            |key: &str| self.quantization[name][key].as_i64().or_else(|| self.quantization[key].as_i64());
        let (Some(group), Some(bits)) = (number("group_size"), number("bits")) else {
            return Err(LoadError::file(
                &self.folder,
                format!("config.json does not say how {name} is quantised"),
            ));
        };
        let packed = [rows, (i64::from(columns) * bits / 32) as i32];
        if weight.shape() != packed || !matches!(bits, 2 | 3 | 4 | 5 | 6 | 8) {
            let reason =
                format!("{name} has the shape {:?}, but config.json says {packed:?}", weight.shape());
            return Err(LoadError::file(&self.folder, reason));
        }
        Ok(Matrix::Quantized {
            weight,
            scales: self.round(scales)?,
            biases: self.round(biases)?,
            group: group as i32,
            bits: bits as i32,
        })
    }

    fn take(&mut self, name: &str) -> Result<Array, LoadError> {
        self.tensors
            .remove(name)
            .ok_or_else(|| LoadError::file(&self.folder, format!("there is no tensor {name}")))
    }

    fn round(&self, tensor: Array) -> Result<Array, LoadError> {
        match self.precision {
            Precision::AsStored => Ok(tensor),
            Precision::Float32 => {
                tensor.as_dtype(Dtype::Float32).map_err(|error| LoadError::file(&self.folder, error))
            }
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let index = folder.join("model.safetensors.index.json");
    let names: BTreeSet<String> = if index.is_file() {
        let text = std::fs::read(&index).map_err(|error| LoadError::file(&index, error))?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| LoadError::file(&index, error))?;
        let map =
            value["weight_map"].as_object().ok_or_else(|| LoadError::file(&index, "no weight_map in it"))?;
        map.values().filter_map(Value::as_str).map(str::to_owned).collect()
    } else {
        let entries = std::fs::read_dir(folder).map_err(|error| LoadError::file(folder, error))?;
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| name.starts_with("model") && name.ends_with(".safetensors"))
        .collect();
    if names.is_empty() {
        return Err(LoadError::file(folder, "there is no model.safetensors in it"));
    }
    // The manifest covers the files of this folder and no others.
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        return Err(LoadError::file(&index, format!("{name:?} is not the name of a file beside it")));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// A matrix that vectors are multiplied with.
pub(crate) enum Matrix {
    Plain(Array),
    Quantized { weight: Array, scales: Array, biases: Array, group: i32, bits: i32 },
}

impl Matrix {
    /// `x` times the transposed matrix.
    pub(crate) fn apply(&self, x: &Array) -> Result<Array, Exception> {
        match self {
            Self::Plain(weight) => ops::matmul(x, weight.t()),
            Self::Quantized { weight, scales, biases, group, bits } => {
                ops::quantized_matmul(x, weight, scales, biases, true, *group, *bits)
            }
        }
    }

    /// The rows with these numbers.
    pub(crate) fn rows(&self, numbers: &Array) -> Result<Array, Exception> {
        match self {
            Self::Plain(weight) => weight.take_axis(numbers, 0),
            Self::Quantized { weight, scales, biases, group, bits } => ops::dequantize(
                weight.take_axis(numbers, 0)?,
                scales.take_axis(numbers, 0)?,
                &biases.take_axis(numbers, 0)?,
                *group,
                *bits,
            ),
        }
    }

    pub(crate) fn tensors(&self) -> Vec<&Array> {
        match self {
            Self::Plain(weight) => vec![weight],
            Self::Quantized { weight, scales, biases, .. } => vec![weight, scales, biases],
        }
    }
}
