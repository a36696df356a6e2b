import { fal } from "@fal-ai/client";

const { request_id } = await fal.queue.submit("ideogram/v4/trainer", {
  input: {},
  webhookUrl: "https://optional.webhook.url/for/results",
});
