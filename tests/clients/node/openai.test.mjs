// The official JavaScript client against the real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";
import { startServer } from "./server.mjs";

const messages = [{ role: "user", content: "What is the capital of France? Answer in one sentence." }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, celsius: { type: "boolean" } },
      required: ["city", "celsius"],
      additionalProperties: false,
    },
  },
};
let server;
let client;
let model;

before(async () => {
  server = await startServer("--context", "1024");
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "not-needed", maxRetries: 0, timeout: 240_000 });
  model = (await client.models.list()).data[0].id;
});

after(async () => {
  assert.equal(await server.stop(), 0, "the server must end cleanly");
});

test("an answer makes sense, and its stream says the same", async () => {
  const options = { model, messages, temperature: 0, max_tokens: 40 };
  const whole = await client.chat.completions.create(options);
  assert.match(whole.choices[0].message.content, /Paris/);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  let text = "";
  let usage;
  const stream = await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the client's own runner follows a stream", async () => {
  const runner = client.chat.completions.stream({ model, messages, temperature: 0, max_tokens: 12 });
  let seen = "";
  runner.on("content", (delta) => { seen += delta; });
  assert.equal(await runner.finalContent(), seen);
});

test("a named tool is called, whole and streamed", async () => {
  const options = {
    model, messages: [{ role: "user", content: "What is the weather in Paris?" }], tools: [weather],
    tool_choice: { type: "function", function: { name: "get_weather" } }, temperature: 0, max_tokens: 200,
  };
  const [call] = (await client.chat.completions.create(options)).choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.equal(typeof JSON.parse(call.function.arguments).celsius, "boolean");
  const final = await client.chat.completions.stream(options).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
});

test("what an answer was can be sent back as it is", async () => {
  const options = { model, messages, temperature: 0, max_tokens: 12 };
  const followed = async (message, more = {}) =>
    (await client.chat.completions.create({ model, messages: [...messages, message, ...(more.results ?? messages)], tools: more.tools, max_tokens: 1 })).usage.prompt_tokens;
  const whole = (await client.chat.completions.create(options)).choices[0].message;
  const final = await client.chat.completions.stream(options).finalMessage();
  const parsed = (await client.chat.completions.parse(options)).choices[0].message;
  const counts = [];
  for (const message of [whole, final, parsed, JSON.parse(JSON.stringify(final)), { ...whole, annotations: [], audio: null, function_call: null }]) {
    counts.push(await followed(message));
  }
  assert.equal(new Set(counts).size, 1);

  const strict = { ...weather, function: { ...weather.function, strict: true } };
  const calling = { model, messages, tools: [strict], tool_choice: "required", parallel_tool_calls: false, temperature: 0, max_tokens: 100 };
  for (const message of [
    (await client.chat.completions.create(calling)).choices[0].message,
    await client.chat.completions.stream(calling).finalMessage(),
    (await client.chat.completions.parse(calling)).choices[0].message,
  ]) {
    const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "{}" }));
    assert.ok((await followed(message, { tools: [weather], results })) > 0);
    const bare = { ...message, tool_calls: message.tool_calls.map(({ id }, index) => ({ id, index, function: { name: "get_weather", arguments: "" } })) };
    assert.ok((await followed(bare, { tools: [weather], results })) > 0);
  }
});

test("a base address without the version works too", async () => {
  const bare = new OpenAI({ baseURL: server.url, apiKey: "not-needed", maxRetries: 0 });
  assert.equal((await bare.models.list()).data[0].id, model);
  assert.ok((await bare.chat.completions.create({ model, messages, max_tokens: 1 })).usage.total_tokens > 0);
});

test("a JSON schema holds", async () => {
  const schema = { type: "object", properties: { capital: { type: "string", maxLength: 20 } }, required: ["capital"], additionalProperties: false };
  const answer = await client.chat.completions.create({
    model, messages, temperature: 0, max_tokens: 100,
    response_format: { type: "json_schema", json_schema: { name: "capital", strict: true, schema } },
  });
  assert.deepEqual(Object.keys(JSON.parse(answer.choices[0].message.content)), ["capital"]);
});

test("log-probabilities are reported", async () => {
  const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 4, logprobs: true, top_logprobs: 2 });
  for (const token of answer.choices[0].logprobs.content) {
    assert.equal(token.top_logprobs.length, 2);
    assert.ok(token.logprob <= 0);
  }
  const completion = await client.completions.create({ model, prompt: "The sky is", echo: true, logprobs: 1, max_tokens: 2, temperature: 0 });
  assert.equal(completion.choices[0].logprobs.tokens.join(""), completion.choices[0].text);
});

test("wrong requests are named", async () => {
  await assert.rejects(client.chat.completions.create({ model, messages, temperature: 3 }), (error) =>
    error instanceof OpenAI.BadRequestError && error.param === "temperature" && /between 0 and 2/.test(error.message));
  await assert.rejects(client.chat.completions.create({ model: "gpt-4o", messages }), (error) =>
    error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  await assert.rejects(client.chat.completions.create({ model, messages, max_tokens: 100000 }), (error) =>
    error.code === "context_length_exceeded" && /1024/.test(error.message));
});

test("leaving a stream cancels it", async () => {
  const running = async () => {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    return Number(text.match(/^zhenjin_running\{[^}]*\} (\S+)/m)[1]);
  };
  const stream = await client.chat.completions.create({
    model, messages: [{ role: "user", content: "Count from 1 to 500." }], stream: true, max_tokens: 900, logit_bias: { 2: -100 },
  });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  stream.controller.abort();
  const end = Date.now() + 30_000;
  while ((await running()) > 0) {
    assert.ok(Date.now() < end, "still running");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
