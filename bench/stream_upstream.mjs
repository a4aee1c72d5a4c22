// A provider that streams: numbered chunks in the shape of OpenAI's chat.completion.chunk, each at its own time.
// The content of a chunk is "NUMBER:NANOSECONDS", the latter read from the monotonic clock when it was written.
// Usage: node stream_upstream.mjs PORT CHUNK_COUNT CHUNK_MILLISECONDS
import { createServer } from "node:http";

const [port, chunkCount, chunkMilliseconds] = process.argv.slice(2).map(Number);
const BODY_BYTES_MAX = 1 << 20;
const HEAD = '{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,"model":"bench-model",' +
  '"system_fingerprint":"fp_bench","choices":';
const END = `data: ${HEAD}[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n`;
const USAGE = `data: ${HEAD}[],"usage":{"prompt_tokens":190,"completion_tokens":${chunkCount},` +
  `"total_tokens":${190 + chunkCount}}}\n\n`;
const WHOLE = JSON.stringify({
  id: "chatcmpl-bench", object: "chat.completion", created: 1760000000, model: "bench-model",
  choices: [{ index: 0, message: { role: "assistant", content: "Not streamed." }, finish_reason: "stop" }],
  usage: { prompt_tokens: 190, completion_tokens: 3, total_tokens: 193 },
});

function stream(response, withUsage) {
  const begun = performance.now();
  let number = 0;
  let timer;
  const emit = () => {
    if (number === chunkCount) {
      response.end(END + (withUsage ? USAGE : "") + "data: [DONE]\n\n");
      return;
    }
    const role = number === 0 ? '"role":"assistant",' : "";
    response.write(`data: ${HEAD}[{"index":0,"delta":{${role}"content":"${number}:${process.hrtime.bigint()} "},` +
      '"logprobs":null,"finish_reason":null}]}\n\n');
    number += 1;
    timer = setTimeout(emit, Math.max(0, begun + number * chunkMilliseconds - performance.now()));
  };
  response.on("close", () => clearTimeout(timer));
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
  emit();
}

const server = createServer((request, response) => {
  const pieces = [];
  let size = 0;
  request.on("data", (piece) => {
    size += piece.length;
    if (size > BODY_BYTES_MAX) request.destroy();
    else pieces.push(piece);
  });
  request.on("end", () => {
    let question;
    try {
      question = JSON.parse(Buffer.concat(pieces).toString());
    } catch {
      response.writeHead(400).end();
      return;
    }
    if (question.stream) stream(response, question.stream_options?.include_usage === true);
    else response.writeHead(200, { "content-type": "application/json" }).end(WHOLE);
  });
});
server.keepAliveTimeout = 600_000;
server.requestTimeout = 0;
server.on("connection", (socket) => socket.setNoDelay(true));
server.listen(port, "127.0.0.1", 1024);
