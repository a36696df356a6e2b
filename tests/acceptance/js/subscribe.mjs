// Draws, follows and uploads with fal's own JavaScript client, and prints what it saw as one JSON object.
import { fal } from "./pointed.mjs";

const seen = {};
const statuses = [];
const input = { prompt: "a portrait of a person, green background", seed: 3, image_size: "square" };
const drawn = await fal.subscribe("fal-ai/flux-lora", {
  input,
  logs: true,
  onQueueUpdate: (update) => {
    statuses.push(update.status);
    if (update.status === "IN_PROGRESS") update.logs.map((line) => line.message);
  },
});
seen.statuses = [...new Set(statuses)];
seen.outputFields = Object.keys(drawn.data).sort();
seen.requestIdGiven = drawn.requestId.length > 0;

const { request_id } = await fal.queue.submit("fal-ai/flux-lora", { input });
await fal.queue.subscribeToStatus("fal-ai/flux-lora", { requestId: request_id, pollInterval: 200 });
const result = await fal.queue.result("fal-ai/flux-lora", { requestId: request_id });
seen.sameRequestId = result.requestId === request_id;

const url = await fal.storage.upload(new File(["Hello, World!"], "hello.txt", { type: "text/plain" }));
seen.uploaded = await (await fetch(url)).text();

const ran = await fal.run("fal-ai/flux-lora", { input });
seen.ran = ran.data.images.length;

console.log(JSON.stringify(seen));
