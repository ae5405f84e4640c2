// Makes the calls it is told to with Anthropic's SDK, and tells what its user gets: as ../python/anthropic_client.py does.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Not imports: those do not look into NODE_PATH.
const require = createRequire(import.meta.url);
const { default: Anthropic } = require("@anthropic-ai/sdk");

async function outcomeOf(call) {
  let attempts = 0;
  const counted = (...request) => {
    attempts += 1;
    return fetch(...request);
  };
  const options = { apiKey: call.key, maxRetries: call.max_retries, baseURL: call.url, fetch: counted };
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  const names = call.method.split(".").map(camel);
  const method = names.pop();
  const resource = names.reduce((parent, name) => parent[name], new Anthropic(options));
  try {
    if (method === "stream") {
      const stream = resource.stream(call.arguments);
      let text = "";
      stream.on("text", (piece) => (text += piece));
      return { answer: await stream.finalMessage(), text };
    }
    const result = await resource[method](call.arguments);
    if (!call.arguments.stream) return { answer: result };
    const answer = [];
    for await (const event of result) answer.push(event);
    return { answer };
  } catch (error) {
    if (!(error instanceof Anthropic.APIError) || error.status === undefined) throw error;
    return {
      exception: error.constructor.name,
      status: error.status,
      body: error.error,
      retries: attempts - 1,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcomeOf(JSON.parse(line))));
}
