// Asks a panel at BASE_URL for everything that an application asks for, and prints what came back as one JSON line.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: process.env.API_KEY, baseURL: process.env.BASE_URL, maxRetries: 0 });
const question = { model: "consensus-fast", messages: [{ role: "user", content: "What is six times seven?" }] };
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];

async function read(options) {
  const told = { text: "", usages: 0, strange: 0, finish: null, extension: null };
  for await (const chunk of await client.chat.completions.create({ ...question, ...options, stream: true })) {
    if (!Array.isArray(chunk.choices)) told.strange += 1;
    told.text += chunk.choices?.[0]?.delta?.content ?? "";
    told.finish = chunk.choices?.[0]?.finish_reason ?? told.finish;
    told.extension = chunk.consensus ?? told.extension;
    if (chunk.usage) told.usages += 1;
  }
  return told;
}

async function refused(asking) {
  try {
    await asking();
    return null;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
}

const whole = await client.chat.completions.create(question);
const helper = await client.chat.completions.stream({ ...question, tools }).finalChatCompletion();
const models = await client.models.list();
console.log(JSON.stringify({
  whole: { text: whole.choices[0].message.content, usage: whole.usage, extension: whole.consensus },
  plain: await read({}),
  counted: await read({ stream_options: { include_usage: true } }),
  helper: helper.choices[0],
  models: models.data.map((model) => model.id),
  twice: await refused(() => client.chat.completions.create({ ...question, n: 2 })),
  responses: await refused(() => client.responses.create({ model: "consensus-fast", input: "?" })),
}));
