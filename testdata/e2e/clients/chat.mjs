// openai-node, unchanged, against the verifying proxy. Prints the receipts it got, one JSON object a line.
// Its argument is the folder whose node_modules has the package.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const { OpenAI } = createRequire(path.resolve(process.argv[2], "package.json"))("openai");
const model = "bloom-tiny-1m";
const messages = [{ role: "user", content: "What is the capital of France?" }];

const receipt = (added) => {
  assert.ok(Number.isInteger(added?.index), `no glassbloom object: ${JSON.stringify(added)}`);
  assert.ok(added.proof.startsWith("c2sp.org/tlog-proof@v1\n"), added.proof);
  console.log(JSON.stringify({ receipt: added.receipt, index: added.index }));
};

const client = new OpenAI({ maxRetries: 0, timeout: 60_000 });

const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
assert.match(answer.choices[0].message.content, /Paris/);
receipt(answer.glassbloom);

let text = "";
let last;
for await (const chunk of await client.chat.completions.create({ model, messages, temperature: 0, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
assert.match(text, /Paris/);
assert.deepEqual(last.choices, []);
receipt(last.glassbloom);

await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), OpenAI.NotFoundError);
const stranger = new OpenAI({ apiKey: "gb-wrong", maxRetries: 0 });
await assert.rejects(stranger.chat.completions.create({ model, messages }), OpenAI.AuthenticationError);
