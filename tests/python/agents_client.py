"""Makes the calls it is told to with OpenAI's agents, and tells what their user gets.

A call is a line of JSON on standard input, what came of it a line on standard output: tests/tests/e2e/agents.rs.
"""

import asyncio
import json
import sys

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel

# Traces go to OpenAI by another way than the model's client, whatever that one asks.
set_tracing_disabled(True)


class Place(BaseModel):
    city: str


def agent_of(call, **more):
    options = {"api_key": call["key"], "max_retries": call["max_retries"]}
    if call["sdk"] == "AzureOpenAI":
        client = openai.AsyncAzureOpenAI(azure_endpoint=call["url"], api_version="2024-10-21", **options)
    else:
        client = openai.AsyncOpenAI(base_url=call["url"] + "/v1", **options)
    arguments = call["arguments"]
    kind = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}[arguments["api"]]
    settings = ModelSettings(max_tokens=arguments.get("max_tokens"))
    model = kind(model=arguments["model"], openai_client=client)
    return Agent(name="A", instructions="Be brief.", model=model, model_settings=settings, **more)


def told(result, **more):
    usage = result.context_wrapper.usage
    return more | {
        "output": result.final_output.model_dump()
        if isinstance(result.final_output, BaseModel)
        else result.final_output,
        "requests": usage.requests,
        "tokens": [usage.input_tokens, usage.output_tokens],
    }


async def outcome_of(call):
    called = []

    @function_tool
    def temperature(city: str) -> str:
        """The temperature in a city."""
        called.append(city)
        return f"12 degrees in {city}"

    text = call["arguments"]["text"]
    try:
        if call["method"] == "run":
            result = await Runner.run(agent_of(call), text)
            return {"answer": told(result)}
        if call["method"] == "call_tool":
            result = await Runner.run(agent_of(call, tools=[temperature]), text)
            return {"answer": told(result, called=called)}
        if call["method"] == "stream_tool":
            result = Runner.run_streamed(agent_of(call, tools=[temperature]), text)
            deltas = [
                event.data.delta
                async for event in result.stream_events()
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            ]
            return {"answer": told(result, called=called, deltas=deltas)}
        if call["method"] == "typed":
            result = await Runner.run(agent_of(call, output_type=Place), text)
            return {"answer": told(result)}
        raise ValueError(call["method"])
    except openai.APIStatusError as error:
        return {
            "exception": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "param": error.param,
            "retries": int(error.request.headers["x-stainless-retry-count"]),
        }


for line in sys.stdin:
    print(json.dumps(asyncio.run(outcome_of(json.loads(line)))), flush=True)
