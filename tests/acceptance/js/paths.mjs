// Every call that names a URL, for each of the ids in IDS, with the request in REQUEST_ID.
import { fal, outcome } from "./pointed.mjs";

const requestId = process.env.REQUEST_ID;
const seen = {};
for (const id of process.env.IDS.split(" ")) {
  seen[id] = [
    await outcome(fal.queue.submit(id, { input: {} })),
    await outcome(fal.queue.status(id, { requestId })),
    await outcome(fal.queue.status(id, { requestId, logs: true })),
    await outcome(fal.queue.result(id, { requestId })),
    await outcome(fal.queue.cancel(id, { requestId })),
    await outcome(fal.run(id, { input: {} })),
  ];
}
const input = JSON.parse(process.env.INPUT);
seen.subscribed = await outcome(fal.subscribe("fal-ai/flux-lora", { input, logs: true }));
seen.ran = await outcome(fal.run("fal-ai/flux-lora", { input }));
seen.asked = await outcome(fal.run("fal-ai/flux-lora", { input, method: "get" }));
console.log(JSON.stringify(seen));
