// Asks the proxy at BASE_URL twice, whole and streamed, and prints what came back as one JSON line.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: process.env.API_KEY, baseURL: process.env.BASE_URL, maxRetries: 0 });
const question = { model: process.env.MODEL, messages: [{ role: "user", content: "Say hello." }] };

const whole = await client.chat.completions.create(question);
const stream = await client.chat.completions.create({ ...question, stream: true });
let streamed = "";
let usageChunks = 0;
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) usageChunks += 1;
}
const models = await client.models.list();
let refused = null;
try {
  await client.chat.completions.create({ ...question, model: "no-such-model" });
} catch (error) {
  refused = { status: error.status, code: error.code };
}
console.log(JSON.stringify({
  whole: whole.choices[0].message.content,
  usage: whole.usage,
  streamed,
  usageChunks,
  models: models.data.map((model) => model.id),
  refused,
}));
