// The AI SDK over three providers and a compatible one: an answer, a stream that ends with its cost, and a tool that it calls.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { GATEWAY_URL: url, GATEWAY_KEY: apiKey } = process.env;
const headers = { "tallygate-stream-cost": "comment" };
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey, headers });
const models = {
  chat: createOpenAICompatible({ name: "gateway", baseURL: `${url}/v1`, apiKey, headers, includeUsage: true })("gpt-4o-mini"),
  responses: openai("gpt-4o-mini"),
  anthropic: createAnthropic({ baseURL: `${url}/v1`, apiKey, headers })("claude-haiku-4-5"),
  gemini: createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey, headers })("gemini-2.5-flash"),
};
const say = (call, text) => console.log(JSON.stringify([call, text]));
const prompt = "[[sim tokens=12]] Hello";

for (const [name, model] of Object.entries(models)) {
  say(`${name} plain`, (await generateText({ model, prompt })).text);
  let streamed = "";
  for await (const text of streamText({ model, prompt }).textStream) streamed += text;
  say(`${name} stream`, streamed);
  const called = [];
  const execute = async ({ query }) => (called.push(query), "nothing found");
  const search = tool({ description: "Search the web.", inputSchema: z.object({ query: z.string() }), execute });
  const ask = { model, prompt: "[[sim tokens=12 tool=1]] Hello", tools: { search }, stopWhen: stepCountIs(3) };
  say(`${name} answer after the tool`, (await generateText(ask)).text);
  say(`${name} tool`, called);
}
