// Uploads a file beyond the client's threshold; the wiretap loses the answers to two of its parts.
import { fal } from "./pointed.mjs";

const bytes = new Uint8Array(90 * 1024 * 1024 + 1);
for (let i = 0; i < bytes.length; i += 4096) bytes[i] = (i / 4096) % 251;
const sum = Buffer.from(await crypto.subtle.digest("SHA-256", bytes)).toString("hex");
const url = await fal.storage.upload(new File([bytes], "large.zip", { type: "application/zip" }));
console.log(JSON.stringify({ url, sum }));
