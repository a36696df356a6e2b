// Submits a training without a key, and drawings with one; the wiretap loses the first answer to each.
import { fal, outcome } from "./pointed.mjs";

const TRAINER = "fal-ai/flux-lora-portrait-trainer";
const input = { images_data_url: process.env.PHOTOS, steps: 10_000, trigger_phrase: "javascript" };
const seen = { training: await outcome(fal.queue.submit(TRAINER, { input })) };
await outcome(fal.queue.cancel(TRAINER, { requestId: seen.training.value.request_id }));
console.log(JSON.stringify(seen));
