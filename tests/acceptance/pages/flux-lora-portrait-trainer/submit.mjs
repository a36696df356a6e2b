import { fal } from "@fal-ai/client";

const { request_id } = await fal.queue.submit("fal-ai/flux-lora-portrait-trainer", {
  input: {
    images_data_url: ""
  },
  webhookUrl: "https://optional.webhook.url/for/results",
});
