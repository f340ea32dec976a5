//! JSON objects whose every key must be asked for.

use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Error;

/// A JSON value in which no object has a key twice: of two values one would be dropped in silence, and which one
/// differs between parsers.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Unambiguous;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Unambiguous, E> {
                Ok(Unambiguous(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Unambiguous, E> {
                Ok(Unambiguous(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unambiguous, A::Error> {
                let mut items = Vec::new();
                while let Some(Unambiguous(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Unambiguous(items.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
                let mut object = Map::new();
                while let Some((key, Unambiguous(value))) = map.next_entry::<String, _>()? {
                    if object.contains_key(&key) {
                        return Err(serde::de::Error::custom(format_args!("the key {key:?} is there twice")));
                    }
                    object.insert(key, value);
                }
                Ok(Unambiguous(object.into()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// An object being taken apart. `null` counts as absent, because clients send it for fields that were not set.
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The object that is the whole body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let Unambiguous(value) = serde_json::from_slice(body).map_err(|error| {
            Error::invalid_request(
                "",
                "invalid_json",
                format!("The request body is not valid JSON: {error}."),
            )
        })?;
        match value {
            Value::Object(map) => Ok(Self { path: String::new(), map }),
            _ => Err(Error::invalid_request("", "invalid_json", "The request body must be a JSON object.")),
        }
    }

    /// An object that was found at `path`.
    pub(super) fn of(value: Value, path: String) -> Result<Self, Error> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(wrong_type(&path, "an object", &other)),
        }
    }

    /// The path of a key, for errors.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, key: &str) -> Result<Option<String>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.at(key), "a string", &other)),
        }
    }

    pub(super) fn bool(&mut self, key: &str) -> Result<Option<bool>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.at(key), "a boolean", &other)),
        }
    }

    /// An integer within the range of the type, written without a fraction.
    pub(super) fn integer(&mut self, key: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| wrong_type(&self.at(key), "an integer", &value))
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong_type(&self.at(key), "a number", &value))
    }

    pub(super) fn array(&mut self, key: &str) -> Result<Option<Vec<Value>>, Error> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong_type(&self.at(key), "an array", &other)),
        }
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Self>, Error> {
        let path = self.at(key);
        self.take(key).map(|value| Self::of(value, path)).transpose()
    }

    /// The value of a field that must be there.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, Error> {
        let path = self.at(key);
        value.ok_or_else(|| {
            let message = format!("Missing required parameter: '{path}'.");
            Error::invalid_request(&path, "missing_required_parameter", message)
        })
    }

    /// Whether there are no keys left.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => {
                let path = self.at(key);
                let message = format!("Unknown parameter: '{path}'.");
                Err(Error::invalid_request(&path, "unknown_parameter", message))
            }
        }
    }
}

pub(super) fn wrong_type(path: &str, expected: &str, got: &Value) -> Error {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{path}': expected {expected}, but got {got} instead.");
    Error::invalid_request(path, "invalid_type", message)
}

pub(super) fn invalid_value(path: &str, expected: &str) -> Error {
    Error::invalid_request(path, "invalid_value", format!("Invalid value for '{path}': expected {expected}."))
}
