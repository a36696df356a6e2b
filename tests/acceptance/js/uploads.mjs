// Uploads by every road of the JavaScript client; what arrived is judged by whoever started this.
import { readFile } from "node:fs/promises";
import { fal } from "./pointed.mjs";

const megabytes = (count) => {
  const bytes = new Uint8Array(count * 1024 * 1024 + 1);
  for (let i = 0; i < bytes.length; i += 4096) bytes[i] = (i / 4096) % 251;
  return bytes;
};
const sum = async (bytes) => Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
const seen = {};

seen.named = await fal.storage.upload(new File(["Grüße"], "grüße aus köln.txt", { type: "text/plain" }));
seen.unnamed = await fal.storage.upload(new Blob(["no name"], { type: "image/png" }));
seen.untyped = await fal.storage.upload(new Blob(["no type"]));
seen.passing = await fal.storage.upload(new Blob(["soon gone"]), { lifecycle: { expiresIn: 1 } });

const large = megabytes(90); // beyond the client's threshold: in parts of 10 MiB
seen.largeSum = await sum(large);
seen.large = await fal.storage.upload(new File([large], "large.zip", { type: "application/zip" }));

// The client uploads what it finds in an input by itself, however deep.
const photos = new File([await readFile(process.env.PHOTOS)], "photos.zip", { type: "application/zip" });
const TRAINER = "fal-ai/flux-lora-portrait-trainer";
const trained = await fal.subscribe(TRAINER, { input: { images_data_url: photos, steps: 1, rank: 1 } });
seen.fields = Object.keys(trained.data).sort();
const weights = await (await fetch(trained.data.diffusers_lora_file.url)).blob();
const file = new File([weights], "mine.safetensors");
const input = { prompt: "a portrait", loras: [{ path: file, scale: 0.5 }], image_size: "square", num_inference_steps: 1 };
seen.drawn = (await fal.run("fal-ai/flux-lora", { input })).data.images.length;
console.log(JSON.stringify(seen));
