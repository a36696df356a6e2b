// What every page has: buttons that ask the API for something and say what came of it.
import { ask, say } from "./api.js";

for (const button of document.querySelectorAll("button[data-ask]")) {
  button.addEventListener("click", async () => {
    const { ask: path, method = "POST", sure, then } = button.dataset;
    if (sure && !window.confirm(sure)) return;
    button.disabled = true;
    try {
      const answer = await ask(method, path);
      if (then === "receipt") showReceipt(button, answer);
      else if (then) window.location.assign(then);
      else window.location.reload();
    } catch (problem) {
      say(problem.message, true);
      button.disabled = false;
    }
  });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    say("Copied.");
  });
}

// A new key is shown once, and never again.
const newKey = document.getElementById("new-key");
newKey?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const shown = document.getElementById("new-key-shown");
  try {
    const made = await ask("POST", "/v1/keys", { alias: document.getElementById("alias").value });
    shown.textContent = made.key;
    shown.parentElement.hidden = false;
    newKey.reset();
  } catch (problem) {
    say(problem.message, true);
  }
});

for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = new Date(time.dateTime).toLocaleString();
}

function showReceipt(button, answer) {
  const list = document.createElement("pre");
  list.id = "receipt";
  list.tabIndex = 0;
  list.textContent = answer.receipt.map((one) => `${one.kind}  ${one.size} bytes  sha256 ${one.sha256}`).join("\n");
  const head = document.createElement("h2");
  head.textContent = `Deleted: ${answer.receipt.length} things. This is the receipt.`;
  const held = (answer.cdn_delete_results ?? []).filter((one) => one.exception).map((one) => one.exception);
  const note = document.createElement("p");
  note.textContent = held.join(" ");
  button.closest("section").replaceChildren(head, list, note);
  say("Deleted.");
}
