// Makes the calls it is told to with the official OpenAI SDK, and tells what its user gets.
//
// A call is a line of JSON on standard input, what came of it a line on standard output; tests/tests/e2e/drivers.rs has
// both. ../python/sdk.py does the same.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Not an import: those do not look into NODE_PATH.
const { default: OpenAI, AzureOpenAI, toFile } = createRequire(import.meta.url)("openai");

function clientOf(call, fetch) {
  const options = { apiKey: call.key, maxRetries: call.max_retries, fetch };
  if (call.sdk === "AzureOpenAI") {
    return new AzureOpenAI({ endpoint: call.url, apiVersion: "2024-10-21", ...options });
  }
  return new OpenAI({ baseURL: call.url + "/v1", ...options });
}

async function outcomeOf(call) {
  // This SDK does not tell how often it tried again.
  let attempts = 0;
  const counted = (...request) => {
    attempts += 1;
    return fetch(...request);
  };
  const names = call.method.split(".");
  const method = names.pop();
  const resource = names.reduce((parent, name) => parent[name], clientOf(call, counted));
  // A list is of arguments that have no names.
  const list = Array.isArray(call.arguments) ? call.arguments : [call.arguments];
  const last = list.at(-1);
  if (Array.isArray(last.file)) {
    // A file's name, and what is in it.
    const [name, content] = last.file;
    last.file = await toFile(Buffer.from(content), name);
  }
  try {
    const result = await resource[method](...list);
    let answer = result;
    if (result instanceof Response) {
      answer = await result.text();
    } else if (last.stream) {
      answer = [];
      for await (const event of result) answer.push(event);
    } else if (result?.getPaginatedItems) {
      // A page has its request in it as well.
      answer = { object: result.object, data: result.data };
    }
    return { answer: answer ?? null, retries: attempts - 1 };
  } catch (error) {
    if (!(error instanceof OpenAI.APIError) || error.status === undefined) throw error;
    return {
      exception: error.constructor.name,
      status: error.status,
      code: error.code,
      param: error.param,
      type: error.type,
      message: error.error.message,
      retries: attempts - 1,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcomeOf(JSON.parse(line))));
}
