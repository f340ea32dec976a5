//! The fields of a chat request that are not carried on: what may be ignored, and what must be refused.

use serde_json::Value;

use super::{
    Error,
    json::{Fields, invalid_value, wrong_type},
};

/// Takes the fields whose value, as checked here, makes no difference to the answer, and refuses them where it would.
pub(super) fn check_ignored(fields: &mut Fields, has_tools: bool) -> Result<(), Error> {
    // Labels for the operator of the API, who is not to know the user here.
    for key in ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
        if fields.string(key)?.is_some_and(|text| text.len() > MAX_LABEL) {
            return Err(invalid_value(key, "at most 512 bytes"));
        }
    }
    check_metadata(fields)?;

    if fields.bool("store")? == Some(true) {
        return Err(Error::unsupported("store", "Nothing is stored here; leave it out or set it to false."));
    }
    let tier = fields.string("service_tier")?;
    if tier.is_some_and(|tier| tier != "auto" && tier != "default") {
        return Err(Error::unsupported("service_tier", "There is one tier: 'auto' or 'default'."));
    }
    let verbosity = fields.string("verbosity")?;
    if verbosity.is_some_and(|verbosity| verbosity != "medium") {
        return Err(Error::unsupported(
            "verbosity",
            "Only 'medium', the default; ask for length in the prompt.",
        ));
    }
    if fields.bool("parallel_tool_calls")? == Some(false) && has_tools {
        let why = "A model here may make several calls at once; leave it out or set it to true.";
        return Err(Error::unsupported("parallel_tool_calls", why));
    }
    if fields.integer("n")?.is_some_and(|n| n != 1) {
        return Err(Error::unsupported("n", "One answer per request; send the request again for another."));
    }
    for key in ["frequency_penalty", "presence_penalty"] {
        if fields.number(key)?.is_some_and(|penalty| penalty != 0.0) {
            return Err(Error::unsupported(
                key,
                "Penalties are not applied here; leave it out or set it to 0.",
            ));
        }
    }
    if fields.object("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        return Err(Error::unsupported("logit_bias", "Tokens are not biased here; leave it out."));
    }
    if fields.bool("logprobs")? == Some(true) {
        return Err(Error::unsupported("logprobs", "Probabilities are not returned here; set it to false."));
    }
    if fields.integer("top_logprobs")?.is_some_and(|n| n != 0) {
        return Err(Error::unsupported("top_logprobs", "Probabilities are not returned here; leave it out."));
    }
    if fields.array("modalities")?.is_some_and(|modalities| modalities != [Value::from("text")]) {
        return Err(Error::unsupported(
            "modalities",
            "Answers are text; leave it out or set it to [\"text\"].",
        ));
    }
    check_response_format(fields)
}

fn check_metadata(fields: &mut Fields) -> Result<(), Error> {
    match fields.take("metadata") {
        None => Ok(()),
        Some(Value::Object(map)) => {
            let good = |(key, value): (&String, &Value)| {
                key.len() <= 64 && value.as_str().is_some_and(|text| text.len() <= MAX_LABEL)
            };
            if map.len() <= 16 && map.iter().all(good) {
                Ok(())
            } else {
                Err(invalid_value("metadata", "at most 16 keys of 64 bytes with strings of 512 bytes"))
            }
        }
        Some(other) => Err(wrong_type("metadata", "an object", &other)),
    }
}

fn check_response_format(fields: &mut Fields) -> Result<(), Error> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(()) };
    let kind = format.string("type")?;
    if format.required("type", kind)? != "text" {
        let why = "Answers are not forced into a format here; ask for it in the prompt.";
        return Err(Error::unsupported("response_format", why));
    }
    format.finish()
}

/// Refuses what OpenAI has and we have not, in other words than what nobody has.
pub(super) fn refuse_unsupported(fields: &mut Fields) -> Result<(), Error> {
    for (key, why) in UNSUPPORTED {
        if fields.take(key).is_some() {
            return Err(Error::unsupported(key, why));
        }
    }
    Ok(())
}

const UNSUPPORTED: [(&str, &str); 6] = [
    ("audio", "Answers are text."),
    ("function_call", "It is deprecated; use 'tool_choice'."),
    ("functions", "It is deprecated; use 'tools'."),
    ("moderation", "Nothing is moderated here."),
    ("prediction", "Predicted outputs are not supported."),
    ("web_search_options", "Models here do not search the web."),
];

/// Bytes of a label.
const MAX_LABEL: usize = 512;
