import { fal } from "@fal-ai/client";

const result = await fal.subscribe("fal-ai/ideogram/custom-models/generate", {
  input: {
    model_id: "",
    prompt: "A photo in my custom style"
  },
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") {
      update.logs.map((log) => log.message).forEach(console.log);
    }
  },
});
console.log(result.data);
console.log(result.requestId);
