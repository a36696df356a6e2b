// Drives a server of ours with fal's own JavaScript client by recipe E, and prints what it saw as one JSON object.
import { fal } from "@fal-ai/client";

const ORIGIN = process.env.TINTYPE_ORIGIN;
const prefix = { "queue.fal.run": "/queue", "fal.run": "/run", "rest.fal.ai": "/rest" };
fal.config({
  credentials: process.env.FAL_KEY,
  fetch: (target, init) => {
    const u = new URL(target);
    return fetch(u.host in prefix ? ORIGIN + prefix[u.host] + u.pathname + u.search : u, init);
  },
});

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

const streamed = [];
const followed = await fal.subscribe("fal-ai/flux-lora", {
  input, logs: true, mode: "streaming", onQueueUpdate: (update) => streamed.push(update),
});
const lines = (streamed.at(-1).logs ?? []).map((line) => line.timestamp + line.message);
seen.repeatedLogLines = lines.length - new Set(lines).size;
seen.streamedFields = Object.keys(followed.data).sort();

const { request_id } = await fal.queue.submit("fal-ai/flux-lora", { input });
await fal.queue.subscribeToStatus("fal-ai/flux-lora", { requestId: request_id, pollInterval: 200 });
const result = await fal.queue.result("fal-ai/flux-lora", { requestId: request_id });
seen.sameRequestId = result.requestId === request_id;

const url = await fal.storage.upload(new File(["Hello, World!"], "hello.txt", { type: "text/plain" }));
seen.uploaded = await (await fetch(url)).text();

const ran = await fal.run("fal-ai/flux-lora", { input });
seen.ran = ran.data.images.length;

try {
  await fal.subscribe("fal-ai/flux-lora", { input: { ...input, num_images: 99 } });
} catch (error) {
  seen.error = { name: error.name, status: error.status, message: error.message,
                 fields: error.getFieldErrors ? error.getFieldErrors("num_images").length : 0 };
}
console.log(JSON.stringify(seen));
