//! The messages of a conversation.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{
    Error, ToolCall,
    json::{Fields, invalid_value, wrong_type},
};

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A string.
    Text(String),
    /// An array of parts of type `text`.
    Parts(Vec<String>),
}

impl Content {
    /// The text; parts are joined with nothing between them.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Parts(parts) => parts.concat().into(),
        }
    }

    fn parse(value: Value, path: &str) -> Result<Self, Error> {
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(parts) if parts.is_empty() => Err(invalid_value(path, "at least one part")),
            Value::Array(parts) => {
                let parts = parts.into_iter().enumerate();
                Ok(Self::Parts(
                    parts
                        .map(|(n, part)| parse_part(part, format!("{path}[{n}]")))
                        .collect::<Result<_, _>>()?,
                ))
            }
            other => Err(wrong_type(path, "a string or an array of parts", &other)),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Parts(parts) => parts.iter().map(|text| json!({"type": "text", "text": text})).collect(),
        }
    }
}

fn parse_part(value: Value, path: String) -> Result<String, Error> {
    let mut fields = Fields::of(value, path)?;
    let kind = fields.string("type")?;
    if fields.required("type", kind)? != "text" {
        return Err(Error::unsupported(
            &fields.at("type"),
            "Only content parts of type 'text' are supported.",
        ));
    }
    let text = fields.string("text")?;
    let text = fields.required("text", text)?;
    fields.finish()?;
    Ok(text)
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// What the model said before.
    Assistant {
        /// Its answer; absent where it only called functions.
        content: Option<Content>,
        /// What it wrote before answering, where the client gives that back.
        reasoning: Option<String>,
        /// Functions that it called.
        tool_calls: Vec<ToolCall>,
        /// Tells participants of one role apart.
        name: Option<String>,
    },
    /// Instructions, from role `system` or `developer`.
    System {
        /// The instructions.
        content: Content,
        /// Tells participants of one role apart.
        name: Option<String>,
    },
    /// The result of a call.
    Tool {
        /// The result.
        content: Content,
        /// The id of the call.
        tool_call_id: String,
    },
    /// What the user said.
    User {
        /// The words.
        content: Content,
        /// Tells participants of one role apart.
        name: Option<String>,
    },
}

impl Message {
    pub(super) fn parse(value: Value, path: &str) -> Result<Self, Error> {
        let mut fields = Fields::of(value, path.into())?;
        let role = fields.string("role")?;
        let role = fields.required("role", role)?;
        let content_path = fields.at("content");
        let content = fields.take("content").map(|value| Content::parse(value, &content_path)).transpose()?;
        let message = match role.as_str() {
            "assistant" => {
                refuse_unless_empty(&mut fields, "refusal")?;
                refuse_unless_empty(&mut fields, "audio")?;
                refuse_unless_empty(&mut fields, "function_call")?;
                refuse_unless_empty(&mut fields, "annotations")?;
                let reasoning = fields.string("reasoning_content")?;
                let name = take_name(&mut fields)?;
                let calls_path = fields.at("tool_calls");
                let calls = fields.array("tool_calls")?.unwrap_or_default().into_iter().enumerate();
                let tool_calls = calls
                    .map(|(n, call)| ToolCall::parse(call, format!("{calls_path}[{n}]")))
                    .collect::<Result<Vec<_>, _>>()?;
                if content.is_none() && tool_calls.is_empty() {
                    fields.required("content", None::<()>)?;
                }
                Self::Assistant { content, reasoning, tool_calls, name }
            }
            "system" | "developer" => {
                let content = fields.required("content", content)?;
                Self::System { content, name: take_name(&mut fields)? }
            }
            "tool" => {
                let id = fields.string("tool_call_id")?;
                let tool_call_id = fields.required("tool_call_id", id)?;
                Self::Tool { content: fields.required("content", content)?, tool_call_id }
            }
            "user" => {
                let content = fields.required("content", content)?;
                Self::User { content, name: take_name(&mut fields)? }
            }
            "function" => {
                let why = "Messages of functions are deprecated; use role 'tool'.";
                return Err(Error::unsupported(&fields.at("role"), why));
            }
            _ => {
                let expected = "one of 'system', 'developer', 'user', 'assistant' and 'tool'";
                return Err(invalid_value(&fields.at("role"), expected));
            }
        };
        fields.finish()?;
        Ok(message)
    }

    /// The role; `developer` is another word for `system`.
    pub const fn role(&self) -> &'static str {
        match self {
            Self::Assistant { .. } => "assistant",
            Self::System { .. } => "system",
            Self::Tool { .. } => "tool",
            Self::User { .. } => "user",
        }
    }

    /// What it says; `None` for an assistant that only called functions.
    pub const fn content(&self) -> Option<&Content> {
        match self {
            Self::Assistant { content, .. } => content.as_ref(),
            Self::System { content, .. } | Self::Tool { content, .. } | Self::User { content, .. } => {
                Some(content)
            }
        }
    }

    /// As in a request.
    pub fn to_value(&self) -> Value {
        self.write(self.content().map_or(Value::Null, Content::to_value), ToolCall::to_value)
    }

    /// As chat templates take it: content as one string, arguments of calls as objects where they are valid JSON.
    pub fn to_template_value(&self) -> Value {
        let content = self.content().map_or(Value::Null, |content| content.text().into());
        self.write(content, |call| {
            let arguments: Value =
                serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into());
            let function = json!({"name": call.name, "arguments": arguments});
            json!({"id": call.id, "type": "function", "function": function})
        })
    }

    fn write(&self, content: Value, call: impl Fn(&ToolCall) -> Value) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), self.role().into());
        map.insert("content".into(), content);
        let mut put = |key: &str, value: &Option<String>| {
            if let Some(value) = value {
                map.insert(key.into(), value.as_str().into());
            }
        };
        match self {
            Self::Assistant { reasoning, tool_calls, name, .. } => {
                put("reasoning_content", reasoning);
                put("name", name);
                if !tool_calls.is_empty() {
                    map.insert("tool_calls".into(), tool_calls.iter().map(call).collect());
                }
            }
            Self::System { name, .. } | Self::User { name, .. } => put("name", name),
            Self::Tool { tool_call_id, .. } => {
                map.insert("tool_call_id".into(), tool_call_id.as_str().into());
            }
        }
        map.into()
    }
}

fn take_name(fields: &mut Fields) -> Result<Option<String>, Error> {
    let name = fields.string("name")?;
    match &name {
        Some(text) if text.is_empty() || text.len() > 64 => {
            Err(invalid_value(&fields.at("name"), "1 to 64 bytes"))
        }
        _ => Ok(name),
    }
}

/// Clients that give an answer back as they got it send these keys, empty.
fn refuse_unless_empty(fields: &mut Fields, key: &str) -> Result<(), Error> {
    match fields.take(key) {
        None => Ok(()),
        Some(Value::Array(items)) if items.is_empty() => Ok(()),
        Some(_) => {
            Err(Error::unsupported(&fields.at(key), "It has no place in a prompt here; leave it out."))
        }
    }
}
