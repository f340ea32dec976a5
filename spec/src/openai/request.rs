//! Requests to `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::{
    Error, Message, Sampling, Tool, ToolChoice,
    check::{check_ignored, refuse_unsupported},
    json::{Fields, invalid_value, wrong_type},
};

/// The most bytes of a request body: 8 MiB.
pub const MAX_BODY: usize = 8 << 20;
/// The most messages in a request.
pub const MAX_MESSAGES: usize = 4096;
/// The most tools in a request.
pub const MAX_TOOLS: usize = 128;
/// The most stop texts in a request.
pub const MAX_STOPS: usize = 4;
/// The most bytes in a stop text.
pub const MAX_STOP_LEN: usize = 256;
/// The most tokens a request can ask for.
pub const MAX_TOKENS: u32 = 1 << 20;

/// How much a model should think before it answers: a hint to its chat template, which may not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningEffort {
    /// `none`
    None,
    /// `minimal`
    Minimal,
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// `xhigh`
    XHigh,
}

impl ReasoningEffort {
    const ALL: [Self; 6] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh];

    /// The word in a request.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
        }
    }
}

/// A checked request. What it does not hold was either refused or makes no difference to the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model's id.
    pub model: String,
    /// The conversation, not empty.
    pub messages: Vec<Message>,
    /// Whether to answer as an event stream.
    pub stream: bool,
    /// Whether the stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may call them.
    pub tool_choice: ToolChoice,
    /// How much to think first.
    pub reasoning_effort: Option<ReasoningEffort>,
}

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// With the field's path in `param`: `invalid_json`, `missing_required_parameter`, `invalid_type`,
    /// `invalid_value`, `unknown_parameter` for a field that OpenAI does not have, `unsupported_parameter` for one
    /// that asks for something not done here; 413 for more than [`MAX_BODY`] bytes.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.len() > MAX_BODY {
            return Err(Error::too_large(MAX_BODY));
        }
        let mut fields = Fields::parse(body)?;
        let model = fields.string("model")?;
        let model = fields.required("model", model)?;
        if model.is_empty() || model.len() > 256 {
            return Err(invalid_value("model", "1 to 256 bytes"));
        }
        let messages = parse_messages(&mut fields)?;
        let stream = fields.bool("stream")?.unwrap_or(false);
        let include_usage = parse_stream_options(&mut fields, stream)?;
        let sampling = parse_sampling(&mut fields)?;
        let tools = parse_tools(&mut fields)?;
        let tool_choice = parse_tool_choice(&mut fields)?;
        let reasoning_effort = parse_reasoning_effort(&mut fields)?;
        check_ignored(&mut fields, !tools.is_empty())?;
        refuse_unsupported(&mut fields)?;
        fields.finish()?;
        Ok(Self { model, messages, stream, include_usage, sampling, tools, tool_choice, reasoning_effort })
    }

    /// The same request in one form whatever the client's was, without the fields that make no difference: what
    /// a proxy seals to a provider. [`ChatRequest::parse`] reads it back as it was.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        put("model", self.model.as_str().into());
        put("messages", self.messages.iter().map(Message::to_value).collect());
        if self.stream {
            put("stream", true.into());
        }
        if self.include_usage {
            put("stream_options", json!({"include_usage": true}));
        }
        let Sampling { temperature_milli, top_p_milli, seed, max_tokens, stop } = &self.sampling;
        put("temperature", (f64::from(*temperature_milli) / 1000.0).into());
        put("top_p", (f64::from(*top_p_milli) / 1000.0).into());
        if let Some(seed) = seed {
            put("seed", (*seed).into());
        }
        if let Some(max_tokens) = max_tokens {
            put("max_completion_tokens", (*max_tokens).into());
        }
        if !stop.is_empty() {
            put("stop", stop.as_slice().into());
        }
        if !self.tools.is_empty() {
            put("tools", self.tools.iter().map(Tool::to_value).collect());
        }
        if self.tool_choice == ToolChoice::None {
            put("tool_choice", "none".into());
        }
        if let Some(effort) = self.reasoning_effort {
            put("reasoning_effort", effort.name().into());
        }
        map.into()
    }

    /// [`ChatRequest::to_value`] as a body.
    pub fn to_json(&self) -> Vec<u8> {
        self.to_value().to_string().into_bytes()
    }
}

fn parse_messages(fields: &mut Fields) -> Result<Vec<Message>, Error> {
    let messages = fields.array("messages")?;
    let messages = fields.required("messages", messages)?;
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(invalid_value("messages", &format!("1 to {MAX_MESSAGES} messages")));
    }
    let mut parsed: Vec<Message> = Vec::with_capacity(messages.len());
    for (n, message) in messages.into_iter().enumerate() {
        let message = Message::parse(message, &format!("messages[{n}]"))?;
        if let Message::Tool { tool_call_id, .. } = &message
            && !parsed.iter().any(|earlier| calls(earlier, tool_call_id))
        {
            let expected = "the id of a call in 'tool_calls' of an earlier message";
            return Err(invalid_value(&format!("messages[{n}].tool_call_id"), expected));
        }
        parsed.push(message);
    }
    Ok(parsed)
}

fn calls(message: &Message, call_id: &str) -> bool {
    matches!(message, Message::Assistant { tool_calls, .. } if tool_calls.iter().any(|call| call.id == call_id))
}

fn parse_stream_options(fields: &mut Fields, stream: bool) -> Result<bool, Error> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(invalid_value("stream_options", "it to be left out unless 'stream' is true"));
    }
    let include_usage = options.bool("include_usage")?.unwrap_or(false);
    if options.bool("include_obfuscation")? == Some(true) {
        let why = "Sizes are hidden by the padding of the sealed stream instead.";
        return Err(Error::unsupported(&options.at("include_obfuscation"), why));
    }
    options.finish()?;
    Ok(include_usage)
}

fn parse_sampling(fields: &mut Fields) -> Result<Sampling, Error> {
    let default = Sampling::default();
    let legacy = max_tokens(fields, "max_tokens")?;
    Ok(Sampling {
        temperature_milli: milli(fields, "temperature", 2.0)?.unwrap_or(default.temperature_milli),
        top_p_milli: milli(fields, "top_p", 1.0)?.unwrap_or(default.top_p_milli),
        seed: fields.integer("seed")?,
        // The newer name wins where both are given.
        max_tokens: max_tokens(fields, "max_completion_tokens")?.or(legacy),
        stop: parse_stop(fields)?,
    })
}

fn milli(fields: &mut Fields, key: &str, max: f64) -> Result<Option<u32>, Error> {
    match fields.number(key)? {
        None => Ok(None),
        Some(value) if (0.0..=max).contains(&value) => Ok(Some((value * 1000.0).round() as u32)),
        Some(_) => Err(invalid_value(key, &format!("a number from 0 to {max}"))),
    }
}

fn max_tokens(fields: &mut Fields, key: &str) -> Result<Option<u32>, Error> {
    let Some(value) = fields.integer(key)? else { return Ok(None) };
    let value = u32::try_from(value).ok().filter(|n| (1..=MAX_TOKENS).contains(n));
    value.map(Some).ok_or_else(|| invalid_value(key, &format!("an integer from 1 to {MAX_TOKENS}")))
}

fn parse_stop(fields: &mut Fields) -> Result<Vec<String>, Error> {
    let items = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => return Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    if items.len() > MAX_STOPS {
        return Err(invalid_value("stop", &format!("at most {MAX_STOPS} strings")));
    }
    let parse = |item| match item {
        Value::String(text) if text.is_empty() || text.len() > MAX_STOP_LEN => {
            Err(invalid_value("stop", &format!("strings of 1 to {MAX_STOP_LEN} bytes")))
        }
        Value::String(text) => Ok(text),
        other => Err(wrong_type("stop", "a string or an array of strings", &other)),
    };
    items.into_iter().map(parse).collect()
}

fn parse_tools(fields: &mut Fields) -> Result<Vec<Tool>, Error> {
    let tools = fields.array("tools")?.unwrap_or_default();
    if tools.len() > MAX_TOOLS {
        return Err(invalid_value("tools", &format!("at most {MAX_TOOLS} tools")));
    }
    let mut parsed: Vec<Tool> = Vec::with_capacity(tools.len());
    for (n, tool) in tools.into_iter().enumerate() {
        let tool = Tool::parse(tool, format!("tools[{n}]"))?;
        if parsed.iter().any(|other| other.name == tool.name) {
            let expected = "a name that no other tool has";
            return Err(invalid_value(&format!("tools[{n}].function.name"), expected));
        }
        parsed.push(tool);
    }
    Ok(parsed)
}

fn parse_tool_choice(fields: &mut Fields) -> Result<ToolChoice, Error> {
    let why = "Calls cannot be forced here; use 'auto' or 'none'.";
    match fields.take("tool_choice") {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Err(Error::unsupported("tool_choice", why)),
            _ => Err(invalid_value("tool_choice", "'auto' or 'none'")),
        },
        Some(Value::Object(_)) => Err(Error::unsupported("tool_choice", why)),
        Some(other) => Err(wrong_type("tool_choice", "a string", &other)),
    }
}

fn parse_reasoning_effort(fields: &mut Fields) -> Result<Option<ReasoningEffort>, Error> {
    let Some(name) = fields.string("reasoning_effort")? else { return Ok(None) };
    let effort = ReasoningEffort::ALL.into_iter().find(|effort| effort.name() == name);
    let expected = "one of 'none', 'minimal', 'low', 'medium', 'high' and 'xhigh'";
    effort.map(Some).ok_or_else(|| invalid_value("reasoning_effort", expected))
}
