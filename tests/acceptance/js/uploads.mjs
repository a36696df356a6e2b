// Uploads by every road of the client: small, nameless, beyond its threshold for parts, and inside an input.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fal } from "./pointed.mjs";

const seen = {};
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
const fetched = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

const piece = new Uint8Array(1024 * 1024).map((_, index) => index % 251);
const parts = Array.from({ length: 91 }, (_, index) => new Uint8Array([...new Uint8Array([index]), 7])).flatMap((mark) => [mark, piece]);
const large = new File(parts, "large.zip", { type: "application/zip" });
const largeUrl = await fal.storage.upload(large, { lifecycle: { expiresIn: "1d" } });
seen.large = { url: largeUrl, size: large.size };
seen.largeIsWhole = digest(await fetched(largeUrl)) === digest(new Uint8Array(await large.arrayBuffer()));

const namelessUrl = await fal.storage.upload(new Blob(["a,b"], { type: "text/csv" }));
seen.nameless = { url: namelessUrl, text: Buffer.from(await fetched(namelessUrl)).toString() };
const plainUrl = await fal.storage.upload(new Blob(["bytes"]));
seen.plain = { url: plainUrl, text: Buffer.from(await fetched(plainUrl)).toString() };

const privateUrl = await fal.storage.upload(new File(["secret"], "secret.txt", { type: "text/plain" }), {
  lifecycle: { expiresIn: "immediate", initialAcl: { default: "forbid" } },
});
seen.privateStatus = (await fetch(privateUrl)).status;

const photos = new File([readFileSync(process.env.PHOTOS)], "photos.zip", { type: "application/zip" });
const trained = await fal.subscribe("fal-ai/flux-lora-portrait-trainer", {
  input: { images_data_url: photos, trigger_phrase: "ohwx", steps: 3 },
  storageSettings: { expiresIn: "1h" },
});
seen.lora = trained.data.diffusers_lora_file;
seen.loraBytes = (await fetched(seen.lora.url)).length;
console.log(JSON.stringify(seen));
process.exit(0);
