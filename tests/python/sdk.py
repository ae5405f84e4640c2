"""Makes the calls it is told to with the official OpenAI SDK, and tells what its user gets.

A call is a line of JSON on standard input, what came of it a line on standard output; tests/tests/e2e/drivers.rs has both.
../node/sdk.mjs does the same.
"""

import json
import sys

import openai


def client_of(call):
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    if call["sdk"] == "AzureOpenAI":
        return openai.AzureOpenAI(azure_endpoint=call["url"], api_version="2024-10-21", **options)
    return openai.OpenAI(base_url=call["url"] + "/v1", **options)


def outcome_of(call):
    resource, method = client_of(call), call["method"].split(".")
    for name in method[:-1]:
        resource = getattr(resource, name)
    arguments = call["arguments"]
    if isinstance(arguments.get("file"), list):
        # A file's name, and what is in it.
        name, content = arguments["file"]
        arguments["file"] = (name, content.encode())
    try:
        raw = getattr(resource.with_raw_response, method[-1])(**arguments)
        parsed = raw.parse()
        if arguments.get("stream"):
            answer = [event.to_dict(mode="json") for event in parsed]
        elif parsed is None:
            answer = None
        elif hasattr(parsed, "to_dict"):
            answer = parsed.to_dict(mode="json")
        else:
            answer = parsed.text
        return {"answer": answer, "retries": raw.retries_taken}
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
