"""Makes the calls it is told to with Anthropic's SDK, and tells what its user gets: as sdk.py does for OpenAI's."""

import json
import sys

import anthropic


def client_of(call):
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    if call["sdk"] == "AnthropicFoundry":
        return anthropic.AnthropicFoundry(base_url=call["url"] + "/anthropic/", **options)
    return anthropic.Anthropic(base_url=call["url"], **options)


def outcome_of(call):
    resource, method = client_of(call), call["method"].split(".")
    for name in method[:-1]:
        resource = getattr(resource, name)
    arguments = call["arguments"]
    try:
        if method[-1] == "stream":
            with resource.stream(**arguments) as stream:
                text = "".join(stream.text_stream)
                return {"answer": stream.get_final_message().to_dict(mode="json"), "text": text}
        answer = getattr(resource, method[-1])(**arguments)
        if arguments.get("stream"):
            return {"answer": [event.to_dict(mode="json") for event in answer]}
        return {"answer": answer.to_dict(mode="json")}
    except anthropic.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "body": error.body,
            "retries": int(error.request.headers["x-stainless-retry-count"]),
        }


for line in sys.stdin:
    print(json.dumps(outcome_of(json.loads(line))), flush=True)
