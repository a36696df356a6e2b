// Submits a drawing with a webhook, and one that fails.
import { fal } from "./pointed.mjs";

const webhookUrl = process.env.HOOK;
const submit = async (input) => (await fal.queue.submit("fal-ai/flux-lora", { input, webhookUrl })).request_id;
const good = await submit({ prompt: "a portrait", image_size: "square", num_inference_steps: 1, seed: 8 });
const bad = await submit({ prompt: "a portrait", loras: [{ path: process.env.BAD }] });
console.log(JSON.stringify({ good, bad }));
