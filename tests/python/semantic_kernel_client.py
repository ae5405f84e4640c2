"""Makes the calls it is told to with Semantic Kernel, and tells what its user gets.

A call is a line of JSON on standard input, what came of it a line on standard output: tests/tests/e2e/semantic_kernel.rs.
"""

import asyncio
import json
import os
import sys

from semantic_kernel import Kernel
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import (
    AzureChatCompletion,
    AzureChatPromptExecutionSettings,
    AzureTextEmbedding,
)
from semantic_kernel.contents import ChatHistory
from semantic_kernel.exceptions.service_exceptions import ServiceException
from semantic_kernel.functions import kernel_function


class Weather:
    @kernel_function(description="The temperature in a city.")
    def temperature(self, city: str) -> str:
        return f"12 degrees in {city}"


def place(call):
    """Whom to ask, as what: what a user of the classes writes."""
    arguments = call["arguments"]
    return {"api_key": call["key"], "deployment_name": arguments["model"], "endpoint": arguments["url"]}


def request(call):
    history = ChatHistory()
    history.add_user_message(call["arguments"]["text"])
    settings = AzureChatPromptExecutionSettings(max_tokens=call["arguments"].get("max_tokens"))
    return AzureChatCompletion(**place(call)), history, settings


def told(message):
    usage = message.metadata.get("usage")
    return {
        "class": type(message).__name__,
        "text": message.content,
        "usage": usage and {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens},
        "finish_reason": message.finish_reason and message.finish_reason.value,
        "model": message.inner_content.model if message.inner_content else None,
    }


async def chat(call):
    service, history, settings = request(call)
    return told(await service.get_chat_message_content(history, settings))


async def stream(call):
    service, history, settings = request(call)
    whole, texts = None, []
    async for message in service.get_streaming_chat_message_content(history, settings):
        whole = message if whole is None else whole + message
        if message.content:
            texts.append(message.content)
    usage = whole.metadata.get("usage")
    return {
        "text": whole.content,
        "texts": texts,
        "usage": usage and {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens},
    }


async def call_function(call):
    service, history, settings = request(call)
    kernel = Kernel()
    kernel.add_plugin(Weather(), plugin_name="weather")
    settings.function_choice_behavior = FunctionChoiceBehavior.Auto()
    return told(await service.get_chat_message_content(history, settings, kernel=kernel))


async def embed(call):
    vectors = await AzureTextEmbedding(**place(call)).generate_embeddings(call["arguments"]["texts"])
    return vectors.tolist()


METHODS = {"chat": chat, "stream": stream, "call_function": call_function, "embed": embed}


async def outcome_of(call):
    # Where the packages look for the authorities that they trust.
    os.environ.pop("SSL_CERT_FILE", None)
    if authorities := call["arguments"].pop("authorities", None):
        os.environ["SSL_CERT_FILE"] = authorities
    try:
        return {"answer": await METHODS[call["method"]](call)}
    except ServiceException as error:
        cause = error.__cause__
        return {
            "exception": type(error).__name__,
            "message": str(error),
            "cause": type(cause).__name__,
            "status": getattr(cause, "status_code", None),
            "code": getattr(cause, "code", None),
            "param": getattr(cause, "param", None),
            "reasons": str(getattr(cause, "__cause__", None)),
        }


for line in sys.stdin:
    print(json.dumps(asyncio.run(outcome_of(json.loads(line)))), flush=True)
