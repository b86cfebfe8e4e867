// The providers' own SDKs from npm: an answer and the same as a stream, which ends with its cost.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const { GATEWAY_URL: url, GATEWAY_KEY: apiKey } = process.env;
const say = (call, text) => console.log(JSON.stringify([call, text]));
const content = "[[sim tokens=12]] Hello";
const messages = [{ role: "user", content }];
let text = "";

const headers = { "tallygate-stream-cost": "comment" };
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey, defaultHeaders: headers });
const chat = { model: "gpt-4o-mini", messages };
say("chat plain", (await openai.chat.completions.create(chat)).choices[0].message.content);
for await (const chunk of await openai.chat.completions.create({ ...chat, stream: true })) text += chunk.choices[0]?.delta.content ?? "";
say("chat stream", text);
const asked = { model: "gpt-4o-mini", input: content };
say("responses plain", (await openai.responses.create(asked)).output_text);
text = "";
for await (const event of await openai.responses.create({ ...asked, stream: true }))
  if (event.type === "response.output_text.delta") text += event.delta;
say("responses stream", text);

const anthropic = new Anthropic({ baseURL: url, apiKey, defaultHeaders: headers });
const message = { model: "claude-haiku-4-5", max_tokens: 100, messages };
say("anthropic plain", (await anthropic.messages.create(message)).content[0].text);
say("anthropic stream", await anthropic.messages.stream(message).finalText());

const gemini = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url, headers } });
const contents = { model: "gemini-2.5-flash", contents: content };
say("gemini plain", (await gemini.models.generateContent(contents)).text);
text = "";
for await (const chunk of await gemini.models.generateContentStream(contents)) text += chunk.text ?? "";
say("gemini stream", text);
