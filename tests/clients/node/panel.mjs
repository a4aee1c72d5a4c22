// Reads the panel's stream at BASE_URL as applications do, and prints what came of it as one JSON line.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: process.env.API_KEY ?? "k", baseURL: process.env.BASE_URL, maxRetries: 0 });
const question = { model: process.env.MODEL, messages: [{ role: "user", content: "Why?" }] };
const told = { streamed: "", finish: null, extension: null, usage: null, strange: 0, helper: null, error: null };

try {
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...question, ...options })) {
    if (!Array.isArray(chunk.choices)) {
      told.strange += 1;
      continue;
    }
    told.streamed += chunk.choices[0]?.delta?.content ?? "";
    told.finish = chunk.choices[0]?.finish_reason ?? told.finish;
    told.extension = chunk.consensus ?? told.extension;
    told.usage = chunk.usage ?? told.usage;
  }
} catch (error) {
  told.error = { name: error.constructor.name, code: error.code ?? null };
}
try {
  const whole = await client.chat.completions.stream(question).finalChatCompletion();
  told.helper = { content: whole.choices[0].message.content, finish: whole.choices[0].finish_reason };
} catch (error) {
  told.helper = { error: error.constructor.name };
}
console.log(JSON.stringify(told));
