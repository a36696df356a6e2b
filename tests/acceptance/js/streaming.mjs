// Follows a request by its event stream and draws by `fal.stream`, and says what arrived.
import { fal, outcome } from "./pointed.mjs";

const input = JSON.parse(process.env.INPUT);
const updates = [];
const done = await fal.subscribe("fal-ai/flux-lora", {
  input, logs: true, mode: "streaming", onQueueUpdate: (update) => updates.push(structuredClone(update)),
});
const seen = { requestId: done.requestId, data: done.data, updates };

const events = [];
const stream = await fal.stream("fal-ai/flux-lora", { input });
for await (const event of stream) events.push(event);
seen.events = events;
seen.done = await stream.done();
console.log(JSON.stringify(seen));
