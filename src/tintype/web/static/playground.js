// A model's form: what is entered is kept in this browser, priced before it is sent, sent, followed, and shown as code.
import { ask, say, upload } from "./api.js";
import { showCode } from "./code.js";
import { Run, duration } from "./follow.js";
import { addRow, clearErrors, fromQuery, read, showErrors, toQuery, write } from "./form_values.js";
import { Photos } from "./photos.js";

const form = document.getElementById("form");
const { endpoint, kind, origin } = form.dataset;
const kept = `form ${endpoint}`;
const lastRun = `run ${endpoint}`;
const archives = [];
let priced = 0;

restore();
const updateCode = showCode(endpoint, origin, () => read(form));
for (const drop of form.querySelectorAll("[data-archive]")) {
  archives.push(new Photos(drop, document.getElementById(drop.dataset.archive), about, changed));
}
form.addEventListener("input", (event) => {
  const { slider } = event.target.dataset ?? {};
  if (slider) document.getElementById(slider).value = event.target.value;
  if (event.target.type === "range") document.querySelector(`[data-slider="${event.target.id}"]`).value = event.target.value;
  if (event.target.dataset?.other) document.getElementById(event.target.dataset.other).hidden = event.target.value !== "__other";
  changed();
});
form.addEventListener("click", (event) => {
  const { add, dice, upload: input } = event.target.dataset;
  if (add) addRow(form, add)?.querySelector("[data-path]").focus();
  if (dice) document.getElementById(dice).value = Math.floor(Math.random() * 2 ** 32);
  if (input) choose(document.getElementById(input));
  if (add || dice) changed();
});
form.addEventListener("change", (event) => {
  if (event.target.type !== "file" && !event.target.closest(".drop")) for (const one of archives) one.report();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
document.getElementById("reset").addEventListener("click", () => {
  write(form, {});
  for (const one of archives) one.clear();
  clearErrors(form);
  changed();
});
document.getElementById("share").addEventListener("click", async () => {
  const link = `${window.location.origin}${window.location.pathname}?${toQuery(read(form))}`;
  await navigator.clipboard.writeText(link);
  say("The link to this form is copied.");
});
changed();
const run = sessionStorage.getItem(lastRun);
if (run && !window.location.search) new Run(run, endpoint, kind, read(form));

// What a report on photos depends on: the plain inputs.
function about() {
  const plain = Object.entries(read(form)).filter(([name, value]) => typeof value !== "object" && name !== "images_data_url");
  return { endpoint, inputs: Object.fromEntries(plain) };
}

function restore() {
  const query = fromQuery(window.location.search);
  const stored = JSON.parse(localStorage.getItem(kept) ?? "{}");
  write(form, Object.keys(query).length ? query : stored);
}

function changed() {
  const body = read(form);
  localStorage.setItem(kept, JSON.stringify(body));
  updateCode();
  tellCount(body);
  clearTimeout(priced);
  priced = setTimeout(() => price(body), 350);
}

function tellCount(body) {
  const count = archives.reduce((sum, one) => sum + one.count, 0);
  const images = Number(body.num_images ?? 1);
  const steps = body.steps ?? form.querySelector('[data-path="steps"]')?.value;
  const what = kind === "training" ? `Train${steps ? ` ${steps} steps` : ""}${count ? ` on ${count} photos` : ""}` : `Generate ${images === 1 ? "one image" : `${images} images`}`;
  document.getElementById("send").textContent = what;
}

// Asks what it would cost and take; what has to be sent and is not there yet is stood in for.
async function price(body) {
  const input = structuredClone(body);
  for (const one of form.querySelectorAll("[data-required]")) {
    if (one.value || one.dataset.path.includes(".")) continue;
    input[one.dataset.path] = ["archive", "file"].includes(one.dataset.kind) ? "data:,x" : "x";
  }
  const cost = document.getElementById("cost");
  try {
    const answer = await ask("POST", "/v1/models/pricing/estimate", { estimate_type: "input", endpoints: { [endpoint]: { input } } });
    const [one] = answer.estimates;
    const time = one.seconds === null ? "Time here: not measured yet." : `Here about ${duration(one.seconds)}, as ${one.runs === 1 ? "one run" : `${one.runs} runs`} before.`;
    const money = one.cost ? ` At fal $${one.cost.toFixed(2)} (${one.units.toLocaleString("en")} ${one.unit}).` : "";
    cost.textContent = `Free.${money} ${time}`;
  } catch {
    cost.textContent = ""; // what is wrong with an input is said when it is sent
  }
}

async function send() {
  const button = document.getElementById("send");
  const problemPlace = document.getElementById("form-problem");
  problemPlace.hidden = true;
  clearErrors(form);
  button.disabled = true;
  try {
    for (const one of archives) await one.settle();
    const body = read(form);
    const { request_id: id } = await ask("POST", `/queue/${endpoint}`, body);
    sessionStorage.setItem(lastRun, id);
    new Run(id, endpoint, kind, body);
    document.getElementById("run").scrollIntoView({ block: "nearest" });
  } catch (problem) {
    const elsewhere = problem.detail?.length ? showErrors(form, problem.detail) : [problem.message];
    problemPlace.textContent = elsewhere.join(" ");
    problemPlace.hidden = !elsewhere.length;
  } finally {
    button.disabled = false;
    changed();
  }
}

function choose(input) {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.addEventListener("change", async () => {
    try {
      input.value = await upload(picker.files[0], picker.files[0].name);
      changed();
    } catch (problem) {
      say(problem.message, true);
    }
  });
  picker.click();
}
