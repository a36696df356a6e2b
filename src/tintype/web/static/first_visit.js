// The first visit: photos, a word, a button. What it sends is what the trainer's own form would.
import { ask } from "./api.js";
import { Photos } from "./photos.js";

const form = document.getElementById("first");
const input = document.getElementById("first-url");
const button = form.querySelector("button.primary");
const problemPlace = document.getElementById("first-problem");
const photos = new Photos(form.querySelector("[data-archive]"), input, () => {
  button.disabled = !photos.count && !input.value;
  button.textContent = photos.count ? `Train on ${photos.count} files` : "Train";
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  problemPlace.hidden = true;
  try {
    await photos.settle();
    const word = document.getElementById("first-word").value.trim();
    const body = { images_data_url: input.value, ...(word ? { trigger_phrase: word } : {}) };
    const { request_id: id } = await ask("POST", `/queue/${form.dataset.endpoint}`, body);
    window.location.assign(`/requests/${id}`);
  } catch (problem) {
    problemPlace.textContent = problem.message;
    problemPlace.hidden = false;
    button.disabled = false;
  }
});
