// What each way to fail looks like to a JavaScript program. BUSY is a request that is being worked on, behind which
// every other training waits; BAD is the URL of a file that is no archive.
import { createFalClient } from "@fal-ai/client";
import { fal, outcome } from "./pointed.mjs";

const TRAINER = "fal-ai/flux-lora-portrait-trainer";
const PAINTER = "fal-ai/flux-lora";
const unknown = { requestId: crypto.randomUUID() };
const busy = { requestId: process.env.BUSY };
const waiting = (seed) => ({ images_data_url: process.env.BAD, steps: 1, seed });
const seen = {};

seen.early = await outcome(fal.queue.result(TRAINER, busy));
seen.late = await outcome(fal.subscribe(TRAINER, { input: waiting(1), startTimeout: 1.5, pollInterval: 200 }));

const { request_id: requestId } = await fal.queue.submit(TRAINER, { input: waiting(2) });
seen.queued = await outcome(fal.queue.status(TRAINER, { requestId }));
await fal.queue.cancel(TRAINER, { requestId });
seen.cancelledId = requestId;
seen.cancelled = await outcome(fal.queue.result(TRAINER, { requestId }));
seen.afterCancel = await outcome(fal.queue.status(TRAINER, { requestId }));

seen.unknownStatus = await outcome(fal.queue.status(PAINTER, unknown));
seen.unknownResult = await outcome(fal.queue.result(PAINTER, unknown));
seen.unknownCancel = await outcome(fal.queue.cancel(PAINTER, unknown));
seen.unknownEndpoint = await outcome(fal.subscribe("fal-ai/flux-lorra", { input: {} }));
seen.invalid = await outcome(fal.run(PAINTER, { input: { prompt: "x", num_images: 99, guidance_scale: -1 } }));
const stream = await fal.stream(PAINTER, { input: { prompt: "x", num_images: 99 } });
seen.invalidStream = await outcome(stream.done());

let adapterId;
const adapter = { input: { prompt: "x", loras: [{ path: process.env.BAD }] }, onEnqueue: (id) => (adapterId = id) };
seen.failed = await outcome(fal.subscribe(PAINTER, adapter));
seen.failedId = adapterId;

const stranger = createFalClient({
  credentials: "not-a-key:of-this-server",
  fetch: (target, init) => fetch(target.replace("https://fal.run", `${process.env.TINTYPE_ORIGIN}/run`), init),
});
seen.stranger = await outcome(stranger.run(PAINTER, { input: { prompt: "x" } }));
console.log(JSON.stringify(seen));
