// The first visit: photos, a word, a button. What it sends is what the trainer's own form would.
import { ask } from "./api.js";
import { Photos } from "./photos.js";

const form = document.getElementById("first");
const input = document.getElementById("first-url");
const button = form.querySelector("button.primary");
const problemPlace = document.getElementById("first-problem");
const word = document.getElementById("first-word");
const about = () => ({ endpoint: form.dataset.endpoint, inputs: word.value.trim() ? { trigger_phrase: word.value.trim() } : {} });
const photos = new Photos(form.querySelector("[data-archive]"), input, about, () => {
  button.disabled = !photos.count && !input.value;
  button.textContent = photos.count ? `Train on ${photos.count} photos` : "Train";
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  problemPlace.hidden = true;
  try {
    await photos.settle();
    const body = { images_data_url: input.value, ...about().inputs };
    const { request_id: id } = await ask("POST", `/queue/${form.dataset.endpoint}`, body);
    window.location.assign(`/requests/${id}`);
  } catch (problem) {
    problemPlace.textContent = problem.message;
    problemPlace.hidden = false;
    button.disabled = false;
  }
});
