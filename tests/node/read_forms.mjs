// What does busboy make of a form? Reads and answers as tests/python/read_forms.py, for one reader.
import { createRequire } from "node:module";

const busboy = createRequire(import.meta.url)("busboy");

function read(contentType, body) {
  return new Promise((resolve) => {
    const parts = [];
    const settle = (seen) => resolve(JSON.stringify([seen]));
    let reader;
    try {
      reader = busboy({ headers: { "content-type": contentType } });
    } catch {
      settle(null);
      return;
    }
    reader.on("field", (name, value) => parts.push([name ?? "", false, Buffer.from(value, "utf8").toString("hex")]));
    reader.on("file", (name, stream) => {
      const part = [name ?? "", true, ""];
      parts.push(part);
      stream.on("data", (chunk) => (part[2] += chunk.toString("hex")));
      stream.on("error", () => {});
    });
    reader.on("error", () => settle(null));
    reader.on("close", () => settle(parts));
    reader.end(body);
  });
}

let waiting = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  waiting = Buffer.concat([waiting, chunk]);
  for (;;) {
    const texts = [];
    let at = 4;
    const count = waiting.length < 4 ? Infinity : waiting.readUInt32LE(0);
    while (texts.length < count && at + 4 <= waiting.length) {
      const end = at + 4 + waiting.readUInt32LE(at);
      if (end > waiting.length) break;
      texts.push(waiting.subarray(at + 4, end));
      at = end;
    }
    if (texts.length < count) break;
    waiting = waiting.subarray(at);
    let lines = "";
    for (let form = 0; form < count; form += 2) {
      lines += `${await read(texts[form].toString("latin1"), texts[form + 1])}\n`;
    }
    process.stdout.write(lines);
  }
}
