// Ollama's own client and the AI SDK, at its default (the Responses API), against the real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import { Ollama } from "ollama";
import { startServer } from "./server.mjs";

const FRANCE = "What is the capital of France? Answer in one sentence.";
const CITY = {
  type: "object",
  properties: { city: { type: "string", enum: ["Rome", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};
let server, model, ollama, sdk;

before(async () => {
  server = await startServer("--context", "1024");
  ollama = new Ollama({ host: server.url });
  model = (await ollama.list()).models[0].model;
  sdk = createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "not-needed" });
});
after(async () => assert.equal(await server.stop(), 0));

test("ollama: chat, whole and streamed", async () => {
  const request = { model, messages: [{ role: "user", content: FRANCE }], options: { temperature: 0, num_predict: 40 } };
  const whole = await ollama.chat(request);
  assert.match(whole.message.content, /Paris/);
  let text = "";
  let last;
  for await (const piece of await ollama.chat({ ...request, stream: true })) {
    text += piece.message.content;
    last = piece;
  }
  assert.equal(text, whole.message.content);
  assert.ok(last.done && last.eval_duration > 0);
});

test("ollama: models and errors", async () => {
  assert.ok((await ollama.show({ model })).capabilities.includes("completion"));
  await assert.rejects(ollama.chat({ model: "none", messages: [] }), (error) => error.status_code === 404);
  await assert.rejects(ollama.embed({ model, input: "x" }), (error) => error.status_code === 400 && /embed/.test(error.error));
});

test("AI SDK: text, whole and streamed, and a second turn", async () => {
  const options = { model: sdk(model), temperature: 0, maxOutputTokens: 40, maxRetries: 0 };
  const whole = await generateText({ ...options, prompt: FRANCE });
  assert.match(whole.text, /Paris/);
  const streamed = streamText({ ...options, prompt: FRANCE });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, whole.text);
  const messages = [{ role: "user", content: FRANCE }, ...whole.response.messages, { role: "user", content: "And of Italy?" }];
  assert.ok((await generateText({ ...options, messages })).text);
});

test("AI SDK: an object, and a tool with its result", async () => {
  const options = { model: sdk(model), temperature: 0, maxOutputTokens: 80, maxRetries: 0 };
  const { output } = await generateText({
    ...options,
    prompt: "A city.",
    output: Output.object({ schema: jsonSchema(CITY) }),
  });
  assert.ok(["Rome", "Oslo"].includes(output.city));
  const asked = [];
  const weather = tool({
    description: "The weather in a city.",
    inputSchema: jsonSchema(CITY),
    execute: async ({ city }) => {
      asked.push(city);
      return "sunny";
    },
  });
  const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" });
  const answer = await generateText({
    ...options,
    prompt: "What is the weather in Rome?",
    tools: { weather },
    stopWhen: stepCountIs(2),
    prepareStep,
  });
  assert.ok(["Rome", "Oslo"].includes(asked[0]));
  assert.equal(answer.steps.length, 2);
});
