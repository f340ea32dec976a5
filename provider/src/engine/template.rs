//! A model's chat template: messages and tools to the text that the model reads.
//!
//! Templates are written for Python's Jinja as `transformers` sets it up; where minijinja differs, it is made
//! to behave the same, because another text is another prompt.

use std::io;
use std::path::Path;

use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use super::LoadError;

/// A template, ready to render.
pub(crate) struct Template {
    environment: Environment<'static>,
    /// Texts of the special tokens that templates write: `bos_token`, `eos_token`, `pad_token`.
    tokens: Map<String, Value>,
}

impl Template {
    /// The template in a model's folder: `chat_template.jinja`, or the one in `tokenizer_config.json`.
    pub(crate) fn load(folder: &Path) -> Result<Self, LoadError> {
        let file = folder.join("tokenizer_config.json");
        let text = std::fs::read(&file).map_err(|error| LoadError::file(&file, error))?;
        let config: Value = serde_json::from_slice(&text).map_err(|error| LoadError::file(&file, error))?;
        let own = folder.join("chat_template.jinja");
        let template = match std::fs::read_to_string(&own) {
            Ok(template) => template,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                in_config(&config).ok_or_else(|| LoadError::file(&file, "there is no chat template in it"))?
            }
            Err(error) => return Err(LoadError::file(&own, error)),
        };
        Self::new(template, &config).map_err(|error| LoadError::file(folder, explain(&error)))
    }

    fn new(template: String, config: &Value) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", template)?;
        let mut tokens = Map::new();
        for name in ["bos_token", "eos_token", "pad_token"] {
            // A token is its text, or an object with the text in it.
            let token = &config[name];
            if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
                tokens.insert(name.to_owned(), text.into());
            }
        }
        Ok(Self { environment, tokens })
    }

    /// The prompt for the assistant's next message.
    pub(crate) fn render(&self, messages: &Value, tools: &Value) -> Result<String, String> {
        let messages = plain(messages)?;
        let tools = match tools {
            Value::Null => None,
            Value::Array(tools) if tools.is_empty() => None,
            Value::Array(_) => Some(tools),
            _ => return Err("the tools are not a list".to_owned()),
        };
        let template = self.environment.get_template("chat").expect("added when this was made");
        template
            .render(context! {
                messages => messages,
                tools => tools,
                add_generation_prompt => true,
                ..minijinja::Value::from_serialize(&self.tokens)
            })
            .map_err(|error| explain(&error))
    }
}

/// The template in `tokenizer_config.json`: a text, or a list of named ones.
fn in_config(config: &Value) -> Option<String> {
    let template = &config["chat_template"];
    let named = || {
        let default = template.as_array()?.iter().find(|entry| entry["name"] == "default")?;
        default["template"].as_str()
    };
    template.as_str().or_else(named).map(str::to_owned)
}

/// The messages in the form that templates expect.
///
/// Clients may leave out a content, send it in parts, and send a call's arguments as text; `mlx-lm` evens
/// these out in the same way.
fn plain(messages: &Value) -> Result<Vec<Value>, String> {
    let messages = messages.as_array().ok_or("the messages are not a list")?;
    if messages.is_empty() {
        return Err("there are no messages".to_owned());
    }
    messages
        .iter()
        .map(|message| {
            let mut message = message.as_object().ok_or("a message is not an object")?.clone();
            let role = message.get("role").and_then(Value::as_str).ok_or("a message has no role")?;
            if role == "developer" {
                message.insert("role".to_owned(), "system".into());
            }
            let content = match message.get("content") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, _>>()?,
                Some(_) => return Err("a message's content is neither text nor parts".to_owned()),
            };
            message.insert("content".to_owned(), content.into());
            if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                calls.iter_mut().for_each(parse_arguments);
            }
            Ok(Value::Object(message))
        })
        .collect()
}

fn part(part: &Value) -> Result<String, String> {
    match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (kind, _) => Err(format!("a content part of type {:?} is not supported", kind.unwrap_or("nothing"))),
    }
}

fn parse_arguments(call: &mut Value) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
    let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok());
    if let Some(parsed) = parsed {
        *arguments = Value::Object(parsed);
    }
}

/// Python's `json.dumps(value, ensure_ascii=False)`.
#[expect(clippy::needless_pass_by_value, reason = "filters take their options like this")]
fn to_json(value: &minijinja::Value, options: Kwargs) -> Result<minijinja::Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Those that `transformers` takes besides; none of them matters in a template.
    for ignored in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<minijinja::Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let mut text = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)),
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            value.serialize(&mut Serializer::with_formatter(
                &mut text,
                PrettyFormatter::with_indent(indent.as_bytes()),
            ))
        }
    }
    .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    Ok(minijinja::Value::from_safe_string(text))
}

/// JSON on one line, with a space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

fn explain(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tiny() -> Template {
        Template::load(&glassbloom_testdata::vector("model/bloom-tiny-1m")).unwrap()
    }

    #[test]
    fn renders_a_conversation_with_tools() {
        let messages = json!([
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Oslo?"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"type": "function", "function": {"name": "get_weather", "arguments": "{\"city\":\"Oslo\",\"days\":[1,2]}"}}
            ]},
            {"role": "tool", "content": "{\"sky\": \"<clear>\"}"},
        ]);
        let tools =
            json!([{"type": "function", "function": {"name": "get_weather", "description": "<b> & 'é'"}}]);
        assert_eq!(
            tiny().render(&messages, &tools).unwrap(),
            "<|im_start|>system\nBe kind.\nTools:\n\
             {\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"description\": \"<b> & 'é'\"}}\
             <|im_end|>\n\
             <|im_start|>user\nWeather in Oslo?<|im_end|>\n\
             <|im_start|>assistant\n<tool_call>\n\
             {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": [1, 2]}}\n</tool_call><|im_end|>\n\
             <|im_start|>user\n<tool_response>\n{\"sky\": \"<clear>\"}\n</tool_response><|im_end|>\n\
             <|im_start|>assistant\n"
        );
    }

    #[test]
    fn no_tools_are_no_tools() {
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(tiny().render(&messages, &Value::Null).unwrap(), expected);
        assert_eq!(tiny().render(&messages, &json!([])).unwrap(), expected);
    }

    #[test]
    fn refuses_what_is_not_a_conversation() {
        let template = tiny();
        for (messages, tools, part) in [
            (json!({}), Value::Null, "not a list"),
            (json!([]), Value::Null, "no messages"),
            (json!(["hello"]), Value::Null, "not an object"),
            (json!([{"content": "hello"}]), Value::Null, "no role"),
            (json!([{"role": "user", "content": 7}]), Value::Null, "neither text"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), Value::Null, "\"image_url\""),
            (json!([{"role": "user", "content": "hello"}]), json!("all"), "tools are not"),
        ] {
            let error = template.render(&messages, &tools).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn speaks_the_python_dialect() {
        let text = "{%- set ns = namespace(n=0) %}{%- for m in messages[::-1] %}{%- set ns.n = ns.n + loop.index0 %}\
                    {%- if m.content.startswith('<t>') %}{{ m.content.split('</t>')[-1].lstrip('\\n') }}{%- endif %}\
                    {%- endfor %}{{ ns.n }}{{ bos_token }}{{ eos_token }}{{ messages | length }}\
                    {%- if tools is none or not tools %}{{ {'a': [1, none, true]} | tojson }}{%- endif %}\n";
        let config = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"});
        let template = Template::new(text.to_owned(), &config).unwrap();
        let messages =
            json!([{"role": "user", "content": "<t>a</t>\n\nb"}, {"role": "user", "content": "c"}]);
        assert_eq!(template.render(&messages, &Value::Null).unwrap(), "b1<s></s>2{\"a\": [1, null, true]}");
    }

    #[test]
    fn a_template_can_refuse() {
        let template =
            Template::new("{{ raise_exception('roles must alternate') }}".to_owned(), &Value::Null).unwrap();
        let messages = json!([{"role": "user", "content": "c"}]);
        assert_eq!(template.render(&messages, &Value::Null).unwrap_err(), "roles must alternate");
    }
}
