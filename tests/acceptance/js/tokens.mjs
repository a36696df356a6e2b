// Streams as a web page does, with a token in place of the key; then hangs up in the middle of a second stream.
import { fal } from "./pointed.mjs";

const id = "fal-ai/flux-lora";
const events = [];
const stream = await fal.stream(id, { input: { prompt: "paged" }, connectionMode: "client" });
for await (const event of stream) events.push(event);
const done = await stream.done();

const left = await fal.stream(id, { input: { prompt: process.env.SLOW } });
left.on("data", (event) => event.status === "IN_PROGRESS" && left.abort());
await left.done();
console.log(JSON.stringify({ events, done, leftId: left.requestId }));
