//! Functions that a model may call, and its calls.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Error,
    json::{Fields, invalid_value},
};

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// Its parameters as a JSON schema, always an object; `None` for a function without any.
    pub parameters: Option<Value>,
}

impl Tool {
    pub(super) fn parse(value: Value, path: String) -> Result<Self, Error> {
        let mut fields = Fields::of(value, path)?;
        require_function_type(&mut fields)?;
        let function = fields.object("function")?;
        let mut function = fields.required("function", function)?;
        fields.finish()?;
        let name = take_name(&mut function)?;
        let description = function.string("description")?;
        let parameters = match function.take("parameters") {
            Some(value) if !value.is_object() => {
                return Err(super::json::wrong_type(&function.at("parameters"), "an object", &value));
            }
            other => other,
        };
        if function.bool("strict")? == Some(true) {
            let why = "Arguments are not forced into the schema here; leave it out or set it to false.";
            return Err(Error::unsupported(&function.at("strict"), why));
        }
        function.finish()?;
        Ok(Self { name, description, parameters })
    }

    /// As in a request, which is also how chat templates take it.
    pub fn to_value(&self) -> Value {
        let mut function = json!({"name": self.name});
        if let Some(description) = &self.description {
            function["description"] = description.as_str().into();
        }
        if let Some(parameters) = &self.parameters {
            function["parameters"] = parameters.clone();
        }
        json!({"type": "function", "function": function})
    }
}

/// Whether the model may call functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may.
    #[default]
    Auto,
    /// It must not; the tools are left out of the prompt.
    None,
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct ToolCall {
    /// Names the call, so that its result can be given back.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, in JSON as the model wrote it: not necessarily valid.
    pub arguments: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type", default)]
    kind: FunctionType,
    function: WireFunction,
}

#[derive(Serialize, Deserialize)]
struct WireFunction {
    name: String,
    arguments: String,
}

/// The word `function`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FunctionType {
    #[default]
    Function,
}

impl From<Wire> for ToolCall {
    fn from(Wire { id, function: WireFunction { name, arguments }, .. }: Wire) -> Self {
        Self { id, name, arguments }
    }
}

impl From<ToolCall> for Wire {
    fn from(ToolCall { id, name, arguments }: ToolCall) -> Self {
        Self { id, kind: FunctionType::Function, function: WireFunction { name, arguments } }
    }
}

impl ToolCall {
    pub(super) fn parse(value: Value, path: String) -> Result<Self, Error> {
        let mut fields = Fields::of(value, path)?;
        require_function_type(&mut fields)?;
        let id = fields.string("id")?;
        let id = fields.required("id", id)?;
        let function = fields.object("function")?;
        let mut function = fields.required("function", function)?;
        fields.finish()?;
        let name = take_name(&mut function)?;
        let arguments = function.string("arguments")?;
        let arguments = function.required("arguments", arguments)?;
        function.finish()?;
        Ok(Self { id, name, arguments })
    }

    /// As in a request.
    pub fn to_value(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

fn require_function_type(fields: &mut Fields) -> Result<(), Error> {
    let kind = fields.string("type")?;
    if fields.required("type", kind)? == "function" {
        return Ok(());
    }
    Err(Error::unsupported(&fields.at("type"), "Only tools of type 'function' are supported."))
}

fn take_name(function: &mut Fields) -> Result<String, Error> {
    let name = function.string("name")?;
    let name = function.required("name", name)?;
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if good {
        Ok(name)
    } else {
        Err(invalid_value(&function.at("name"), "1 to 64 letters, digits, '_' or '-'"))
    }
}
