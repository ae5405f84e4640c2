"""Makes the calls it is told to with LangChain, and tells what its user gets.

A call is a line of JSON on standard input, what came of it a line on standard output: tests/tests/e2e/langchain.rs.
"""

import json
import sys

import openai
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, AzureOpenAIEmbeddings, ChatOpenAI, OpenAIEmbeddings


@tool
def temperature(city: str) -> str:
    """The temperature in a city."""
    return f"12 degrees in {city}"


def place(call):
    """Whom to ask, as what: what a user of either class writes."""
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    if call["sdk"] == "AzureOpenAI":
        return options | {"azure_endpoint": call["url"], "api_version": "2024-10-21"}
    return options | {"base_url": call["url"] + "/v1"}


def chat_of(call):
    arguments = call["arguments"]
    if call["sdk"] == "AzureOpenAI":
        return AzureChatOpenAI(azure_deployment=arguments["model"], **place(call))
    return ChatOpenAI(model=arguments["model"], **place(call))


def told(message):
    return {
        "class": type(message).__name__,
        "text": message.text,
        "usage": message.usage_metadata,
        "finish_reason": message.response_metadata.get("finish_reason"),
        "model": message.response_metadata.get("model_name"),
        "tool_calls": message.tool_calls,
    }


def invoke(call):
    return told(chat_of(call).invoke(call["arguments"]["text"], max_tokens=call["arguments"]["max_tokens"]))


def stream(call):
    chunks = list(chat_of(call).stream(call["arguments"]["text"], max_tokens=call["arguments"]["max_tokens"]))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return told(whole) | {"texts": [chunk.text for chunk in chunks if chunk.text]}


def call_tool(call):
    chat = chat_of(call).bind_tools([temperature])
    messages = [("user", call["arguments"]["text"])]
    asked = chat.invoke(messages)
    messages.append(asked)
    for wanted in asked.tool_calls:
        messages.append(ToolMessage(temperature.invoke(wanted["args"]), tool_call_id=wanted["id"]))
    return {"asked": told(asked), "answered": told(chat.invoke(messages))}


def embed(call):
    kind = AzureOpenAIEmbeddings if call["sdk"] == "AzureOpenAI" else OpenAIEmbeddings
    arguments = call["arguments"]
    # Otherwise it counts tokens first, by tables that it loads from the network, and sends their numbers.
    embeddings = kind(model=arguments["model"], check_embedding_ctx_length=False, **place(call))
    return embeddings.embed_documents(arguments["texts"])


METHODS = {"invoke": invoke, "stream": stream, "call_tool": call_tool, "embed": embed}


def outcome_of(call):
    try:
        return {"answer": METHODS[call["method"]](call)}
    except openai.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "type": error.type,
            "message": error.body["message"],
            "waits": "retry-after-ms" in error.response.headers,
        }


for line in sys.stdin:
    print(json.dumps(outcome_of(json.loads(line))), flush=True)
