"""Makes the calls it is told to with LiteLLM as a library, and tells what its user gets.

A call is a line of JSON on standard input, what came of it a line on standard output: tests/tests/e2e/litellm.rs.
"""

import io
import json
import os
import sys

# Prices of others are loaded from the network otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import openai  # noqa: E402

litellm.suppress_debug_info = True

TEMPERATURE = {
    "name": "temperature",
    "description": "The temperature in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def place(call):
    """Whom to ask, as what: what a user of either provider writes."""
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    options["model"] = call["sdk"] + "/" + call["arguments"]["model"]
    if call["sdk"] == "azure":
        return options | {"api_base": call["url"], "api_version": "2024-10-21"}
    return options | {"api_base": call["url"] + "/v1"}


def user(text):
    return {"role": "user", "content": text}


def tokens(usage):
    return [usage.prompt_tokens, usage.completion_tokens]


def chat(call, messages=None, **more):
    arguments = call["arguments"]
    for name in ("max_tokens", "stream"):
        if name in arguments:
            more[name] = arguments[name]
    return litellm.completion(messages=messages or [user(arguments["text"])], **place(call), **more)


def complete(call):
    answer = chat(call)
    return {"text": answer.choices[0].message.content, "tokens": tokens(answer.usage)}


def stream(call):
    # What the chunks say, put together as its users do it.
    chunks = list(chat(call, stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks)
    return {"text": whole.choices[0].message.content, "tokens": tokens(whole.usage)}


def call_tool(call):
    tools = [{"type": "function", "function": TEMPERATURE}]
    messages = [user(call["arguments"]["text"])]
    asked = chat(call, messages, tools=tools).choices[0].message
    wanted = asked.tool_calls[0]
    messages += [asked, {"role": "tool", "tool_call_id": wanted.id, "content": "12 degrees"}]
    answer = chat(call, messages, tools=tools)
    called = {"name": wanted.function.name, "arguments": json.loads(wanted.function.arguments)}
    return {"called": called, "text": answer.choices[0].message.content}


def responses(call):
    answer = litellm.responses(input=call["arguments"]["text"], **place(call))
    return {"text": answer.output[0].content[0].text}


def stream_responses(call):
    events = list(litellm.responses(input=call["arguments"]["text"], stream=True, **place(call)))
    return {"last": str(events[-1].type.value), "text": events[-1].response.output[0].content[0].text}


def embed(call):
    answer = litellm.embedding(input=call["arguments"]["texts"], **place(call))
    return {"vectors": [datum["embedding"] for datum in answer.data], "prompt": answer.usage.prompt_tokens}


def generate_image(call):
    return {"images": len(litellm.image_generation(prompt="a tower", **place(call)).data)}


def transcribe(call):
    sound = io.BytesIO(b"sound")
    sound.name = "a.wav"
    return {"text": litellm.transcription(file=sound, **place(call)).text}


METHODS = {
    "complete": complete,
    "stream": stream,
    "call_tool": call_tool,
    "responses": responses,
    "stream_responses": stream_responses,
    "embed": embed,
    "generate_image": generate_image,
    "transcribe": transcribe,
}


def outcome_of(call):
    try:
        return {"answer": METHODS[call["method"]](call)}
    except openai.OpenAIError as error:
        return {
            "exception": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "message": getattr(error, "message", str(error)),
        }


for line in sys.stdin:
    print(json.dumps(outcome_of(json.loads(line))), flush=True)
