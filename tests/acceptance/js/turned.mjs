// A program written for fal, in the ways that Node knows; prints what came of each as one JSON object.
import https from "node:https";
import net from "node:net";
import { connect } from "node:tls";
import { fal } from "@fal-ai/client";

fal.config({ credentials: process.env.REAL_KEY });
const input = { prompt: "a portrait of a person", image_size: "square", num_inference_steps: 1, seed: 1 };
const seen = {};

const ask = async (name, call) => {
  try {
    seen[name] = await call();
  } catch (error) {
    seen[name] = `${error.name}: ${error.cause?.message ?? error.message}`;
  }
};

await ask("subscribe", async () => (await fal.subscribe("fal-ai/flux-lora", { input })).data.seed);
await ask("stream", async () => {
  const stream = await fal.stream("fal-ai/flux-lora", { input });
  return (await stream.done()).seed;
});
await ask("upload", async () => {
  const url = await fal.storage.upload(new File(["Hello, World!"], "hello.txt", { type: "text/plain" }));
  return (await fetch(url)).text();
});
const asked = (options) => new Promise((resolve, reject) => {
  const body = JSON.stringify(input);
  const request = https.request({ method: "POST", host: "fal.run", path: "/fal-ai/flux-lora", ...options }, (answer) => {
    let text = "";
    answer.on("data", (data) => { text += data; }).on("end", () => resolve(JSON.parse(text).seed));
  });
  request.on("error", reject).end(body);
});
await ask("https", () => asked({}));
await ask("https, checks off", () => asked({ rejectUnauthorized: false, agent: false }));
await ask("token", async () => {
  const body = JSON.stringify({ allowed_apps: ["flux-lora"], token_expiration: 120 });
  return typeof (await (await fetch("https://rest.fal.ai/tokens/", { method: "POST", body })).json());
});
await ask("another way to fal", () => new Promise((resolve, reject) => {
  const plain = net.connect(process.env.IMPOSTOR, "127.0.0.1");
  const options = { socket: plain, servername: "fal.run", rejectUnauthorized: false };
  const secure = connect(options, () => { secure.destroy(); resolve("sent"); });
  secure.on("error", reject);
}));
await ask("plain http", async () => (await fetch("http://fal.run/")).status);
console.log(JSON.stringify(seen));
