"""openai-python, unchanged, against the verifying proxy. Prints the receipts it got, one JSON object a line."""

import json
import sys

import openai

MODEL = "bloom-tiny-1m"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "City name"}},
            "required": ["city"],
        },
    },
}


def receipt(extra):
    """What the proxy added, checked for what a program would rely on."""
    added = (extra or {}).get("glassbloom")
    assert added, f"no glassbloom object in {extra}"
    assert isinstance(added["index"], int) and added["log"].endswith("/receipts"), added
    assert added["proof"].startswith("c2sp.org/tlog-proof@v1\n"), added["proof"]
    assert added["sealed_by"] == "user", added["sealed_by"]
    assert added["steps"] and all(step["state"] != "failed" for step in added["steps"]), added["steps"]
    print(json.dumps({"receipt": added["receipt"], "index": added["index"]}), flush=True)
    return added


def whole(client):
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer.usage
    return receipt(answer.model_extra)


def streamed(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text, text
    assert len(chunks) > 3, f"not streamed: {chunks}"
    assert chunks[-1].choices == [], chunks[-1]
    return receipt(chunks[-1].model_extra)


def tool_call(client):
    question = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = client.chat.completions.create(model=MODEL, messages=question, tools=[WEATHER], temperature=0)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    call = choice.message.tool_calls[0]
    assert call.function.name == "get_weather", call
    assert json.loads(call.function.arguments) == {"city": "Oslo"}, call
    return receipt(answer.model_extra)


def refused(kind, ask):
    try:
        ask()
    except kind as error:
        assert error.body.get("message"), error.body
        return
    raise AssertionError(f"not refused with {kind.__name__}")


def main():
    client = openai.OpenAI(max_retries=0, timeout=60)
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    receipts = [whole(client), streamed(client), tool_call(client)]
    indices = [added["index"] for added in receipts]
    assert len(set(indices)) == len(indices), f"two answers share an index: {indices}"

    chat = client.chat.completions
    refused(openai.NotFoundError, lambda: chat.create(model="no-such-model", messages=QUESTION))
    refused(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=[]))
    stranger = openai.OpenAI(api_key="gb-wrong", max_retries=0, timeout=60)
    refused(openai.AuthenticationError, lambda: stranger.chat.completions.create(model=MODEL, messages=QUESTION))
    refused(openai.AuthenticationError, stranger.models.list)


if __name__ == "__main__":
    sys.exit(main())
