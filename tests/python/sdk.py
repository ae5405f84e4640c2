"""Makes the calls it is told to with the official OpenAI SDK, and tells what its user gets.

A call is a line of JSON on standard input, what came of it a line on standard output; tests/tests/e2e/drivers.rs has both.
../node/sdk.mjs does the same.
"""

import json
import sys

import httpx
import openai
from pydantic import BaseModel

# What its users may hand over as the shape of an answer.
FORMATS = ("response_format", "text_format")


class Place(BaseModel):
    city: str


def client_of(call):
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    if call["sdk"] == "AzureOpenAI":
        return openai.AzureOpenAI(azure_endpoint=call["url"], api_version="2024-10-21", **options)
    return openai.OpenAI(base_url=call["url"] + "/v1", **options)


def file_of(value):
    """A file's name, and what is in it; or several."""
    if isinstance(value[0], list):
        return [file_of(one) for one in value]
    name, content = value
    return (name, content.encode())


def arguments_of(call):
    arguments = call["arguments"]
    for name in ("file", "image", "mask"):
        if isinstance(arguments.get(name), list):
            arguments[name] = file_of(arguments[name])
    for name in FORMATS:
        if arguments.get(name) == "Place":
            arguments[name] = Place
    return arguments


def told(parsed):
    if parsed is None:
        return None
    if hasattr(parsed, "to_dict"):
        # Of what is parsed by a class it would warn that it is one.
        return parsed.to_dict(mode="json", warnings=False)
    return parsed.text


def conversation_of(call):
    """What is said in one turn of a conversation, and what that uses."""
    text = ""
    with client_of(call).realtime.connect(**call["arguments"]) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        connection.response.create()
        for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.done":
                return {"text": text, "output_tokens": event.response.usage.output_tokens}
    return None


def fetched(call):
    """What stands at an address that an answer has told, whatever it is."""
    found = client_of(call).get(call["arguments"]["url"], cast_to=httpx.Response)
    return {"answer": found.text, "status": found.status_code, "headers": dict(found.headers)}


def responses_of(call):
    """What is said in one response after another of one connection, each of which goes on from the last."""
    answers, last = [], None
    with client_of(call).responses.connect() as connection:
        for asked in call["arguments"]:
            if last is not None:
                asked["previous_response_id"] = last
            connection.response.create(**asked)
            text = ""
            for event in connection:
                if event.type == "response.output_text.delta":
                    text += event.delta
                if event.type == "response.completed":
                    last = event.response.id
                    answers.append({"text": text, "output_tokens": event.response.usage.output_tokens})
                    break
                if event.type == "error":
                    answers.append({"error": event.to_dict(mode="json")})
                    break
    return answers


def outcome_of(call):
    if call["method"] == "responses.connect":
        return {"answer": responses_of(call)}
    if call["method"] == "realtime":
        return {"answer": conversation_of(call)}
    resource, method = client_of(call), call["method"].split(".")
    for name in method[:-1]:
        resource = getattr(resource, name)
    arguments = arguments_of(call)
    try:
        if method == ["get"]:
            return fetched(call)
        if method[-1] == "stream":
            with resource.stream(**arguments) as stream:
                events = [event.type for event in stream]
                last = "get_final_response" if "responses" in method else "get_final_completion"
                return {"answer": told(getattr(stream, last)()), "events": events}
        raw = getattr(resource.with_raw_response, method[-1])(**arguments)
        parsed = raw.parse()
        if arguments.get("stream"):
            answer = [event.to_dict(mode="json") for event in parsed]
        else:
            answer = told(parsed)
        return {"answer": answer, "retries": raw.retries_taken, "headers": dict(raw.headers)}
    except openai.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "type": error.type,
            "message": error.body["message"],
            "retries": int(error.request.headers["x-stainless-retry-count"]),
        }


for line in sys.stdin:
    print(json.dumps(outcome_of(json.loads(line))), flush=True)
