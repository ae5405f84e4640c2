// Makes the calls it is told to with the official OpenAI SDK, and tells what its user gets.
//
// A call is a line of JSON on standard input, what came of it a line on standard output; tests/tests/e2e/drivers.rs has
// both. ../python/sdk.py does the same.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Not imports: those do not look into NODE_PATH.
const require = createRequire(import.meta.url);
const { default: OpenAI, AzureOpenAI, toFile } = require("openai");
const { OpenAIRealtimeWebSocket } = require("openai/realtime/websocket");
const { zodResponseFormat, zodTextFormat } = require("openai/helpers/zod");
const { z } = require("zod");

const Place = z.object({ city: z.string() });

function clientOf(call, fetch) {
  const options = { apiKey: call.key, maxRetries: call.max_retries, fetch };
  if (call.sdk === "AzureOpenAI") {
    return new AzureOpenAI({ endpoint: call.url, apiVersion: "2024-10-21", ...options });
  }
  return new OpenAI({ baseURL: call.url + "/v1", ...options });
}

// A file's name, and what is in it; or several.
async function fileOf(value) {
  if (Array.isArray(value[0])) return Promise.all(value.map(fileOf));
  const [name, content] = value;
  return toFile(Buffer.from(content), name);
}

// What stands there in the words of the Python package becomes what is handed over here.
async function argumentsOf(list) {
  const last = list.at(-1);
  for (const name of ["file", "image", "mask"]) {
    if (Array.isArray(last[name])) last[name] = await fileOf(last[name]);
  }
  if (last.response_format === "Place") last.response_format = zodResponseFormat(Place, "Place");
  if (last.text_format === "Place") {
    delete last.text_format;
    last.text = { format: zodTextFormat(Place, "Place") };
  }
  if (last.extra_headers) {
    list.push({ headers: last.extra_headers });
    delete last.extra_headers;
  }
  return list;
}

// The SDK insists on TLS, which the tests' Envoy does not speak.
const { WebSocket } = globalThis;
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url.replace(/^wss:/, "ws:"), protocols);
  }
};

// What is said in one turn of a conversation, and what that uses. The key stands among the socket's protocols.
function conversationOf(call) {
  const socket = new OpenAIRealtimeWebSocket(call.arguments[0], clientOf(call, fetch));
  let text = "";
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("session.created", () => {
      socket.send({ type: "session.update", session: { type: "realtime", output_modalities: ["text"] } });
      socket.send({ type: "response.create" });
    });
    socket.on("response.output_text.delta", (event) => (text += event.delta));
    socket.on("response.done", (event) => {
      socket.close();
      resolve({ text, output_tokens: event.response.usage.output_tokens });
    });
  });
}

async function outcomeOf(call) {
  if (call.method === "realtime") return { answer: await conversationOf(call) };
  // This SDK does not tell how often it tried again.
  let attempts = 0;
  let headers;
  const counted = async (...request) => {
    attempts += 1;
    const response = await fetch(...request);
    headers = Object.fromEntries(response.headers);
    return response;
  };
  const names = call.method.split(".");
  const method = names.pop();
  const resource = names.reduce((parent, name) => parent[name], clientOf(call, counted));
  // A list is of arguments that have no names.
  const given = Array.isArray(call.arguments) ? call.arguments : [call.arguments];
  const streams = given.at(-1).stream;
  const list = await argumentsOf(given);
  try {
    if (call.method === "get") {
      // What stands at an address that an answer has told, whatever it is.
      const found = await resource.get(call.arguments.url).asResponse();
      return { answer: await found.text(), status: found.status, headers };
    }
    if (method === "stream") {
      const stream = resource.stream(...list);
      const last = names.includes("responses") ? "finalResponse" : "finalChatCompletion";
      return { answer: await stream[last]() };
    }
    const result = await resource[method](...list);
    let answer = result;
    if (result instanceof Response) {
      answer = await result.text();
    } else if (streams) {
      answer = [];
      for await (const event of result) answer.push(event);
    } else if (result?.getPaginatedItems) {
      // A page has its request in it as well.
      answer = { object: result.object, data: result.data };
    }
    return { answer: answer ?? null, retries: attempts - 1, headers };
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
