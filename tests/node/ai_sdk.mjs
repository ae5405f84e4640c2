// Makes the calls it is told to with the AI SDK, and tells what its user gets.
//
// A call is a line of JSON on standard input, what came of it a line on standard output: tests/tests/e2e/ai_sdk.rs.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Not imports: those do not look into NODE_PATH.
const require = createRequire(import.meta.url);
const ai = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createAzure } = require("@ai-sdk/azure");
const { z } = require("zod");

globalThis.AI_SDK_LOG_WARNINGS = false;
process.removeAllListeners("warning");

// Whom to ask, as what: what a user of each writes.
const PROVIDERS = {
  openai: (url, more) => createOpenAI({ baseURL: url + "/v1", ...more }),
  "azure-v1": (url, more) => createAzure({ baseURL: url + "/openai/v1", ...more }),
  azure: (url, more) => createAzure({ baseURL: url + "/openai", useDeploymentBasedUrls: true, ...more }),
  "azure-dated": (url, more) =>
    createAzure({ baseURL: url + "/openai", useDeploymentBasedUrls: true, apiVersion: "2025-04-01-preview", ...more }),
};

const temperature = ai.tool({
  description: "The temperature in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `12 degrees in ${city}`,
});

const tokens = (usage) => [usage.inputTokens, usage.outputTokens];

const METHODS = {
  async text(provider, ask) {
    const { text, usage } = await ai.generateText(ask);
    return { text, tokens: tokens(usage) };
  },
  async tools(provider, ask) {
    const result = await ai.generateText({ ...ask, tools: { temperature }, stopWhen: ai.isStepCount(3) });
    const called = result.steps[0].toolCalls.map(({ toolName, input }) => ({ toolName, input }));
    return { called, text: result.text, tokens: tokens(result.totalUsage) };
  },
  async stream(provider, ask) {
    let failure;
    const result = ai.streamText({ ...ask, onError: ({ error }) => (failure = error) });
    let text = "";
    for await (const part of result.textStream) text += part;
    if (failure) throw failure;
    return { text, tokens: tokens(await result.usage) };
  },
  async object(provider, ask) {
    const { object } = await ai.generateObject({ ...ask, schema: z.object({ city: z.string() }) });
    return object;
  },
  async embed(provider, { model, values, maxRetries }) {
    const result = await ai.embedMany({ model: provider.embedding(model), values, maxRetries });
    return { vectors: result.embeddings, tokens: result.usage.tokens };
  },
  async image(provider, { model, maxRetries }) {
    const { images } = await ai.generateImage({ model: provider.image(model), prompt: "a tower", maxRetries });
    return { images: images.length };
  },
  async edit(provider, { model, maxRetries }) {
    const image = Buffer.from("iVBORw0KGgo=", "base64");
    const prompt = { text: "a tower", images: [image, image] };
    const { images } = await ai.generateImage({ model: provider.image(model), prompt, maxRetries });
    return { images: images.length };
  },
  async transcribe(provider, { model, maxRetries }) {
    const audio = Buffer.from("sound");
    const { text } = await ai.transcribe({ model: provider.transcription(model), audio, maxRetries });
    return { text };
  },
  async speech(provider, { model, maxRetries }) {
    const { audio } = await ai.generateSpeech({ model: provider.speech(model), text: "hello", maxRetries });
    return { bytes: audio.uint8Array.length };
  },
};

async function outcomeOf(call) {
  // It does not tell how often it tried again.
  let attempts = 0;
  const counted = (...request) => {
    attempts += 1;
    return fetch(...request);
  };
  const provider = PROVIDERS[call.sdk](call.url, { apiKey: call.key, fetch: counted });
  const { api, text, ...ask } = call.arguments;
  ask.maxRetries = call.max_retries;
  if (api) {
    ask.prompt = text;
    ask.model = api === "chat" ? provider.chat(ask.model) : provider(ask.model);
  }
  try {
    return { answer: await METHODS[call.method](provider, ask), attempts };
  } catch (error) {
    const last = error.lastError ?? error;
    if (!ai.APICallError.isInstance(last)) throw error;
    return {
      exception: error.name,
      status: last.statusCode,
      code: last.data?.error.code,
      param: last.data?.error.param,
      message: last.message,
      retryable: last.isRetryable,
      attempts,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcomeOf(JSON.parse(line))));
}
