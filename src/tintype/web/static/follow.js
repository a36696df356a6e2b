// Follows a request in the page: place in the queue, steps, loss, log, and what came of it. A stream that breaks, as when
// the server is started anew, is taken up again, and tells everything from the beginning.
import { ask, say } from "./api.js";
import { drawCurve } from "./curve.js";
import { showResult } from "./results.js";

const STEP = /^step (\d+)\/(\d+) loss ([-+.\deE]+)/;
const AGAIN = 2000; // milliseconds before a stream that was refused is asked for again
const SHOWN_LINES = 6; // of the log beside a failure

const at = (id) => document.getElementById(`run-${id}`);

export class Run {
  constructor(id, endpoint, kind, input) {
    this.id = id;
    this.input = input;
    this.url = `/queue/${endpoint.split("/").slice(0, 2).join("/")}/requests/${id}`;
    this.kind = kind;
    const section = document.getElementById("run");
    this.uses = JSON.parse(section.dataset.uses);
    section.hidden = false;
    at("page").href = `/requests/${id}`;
    at("page").hidden = window.location.pathname === `/requests/${id}`;
    at("problem").hidden = at("results").hidden = at("loss").hidden = true;
    at("cancel").onclick = () => this.#act("PUT", `${this.url}/cancel`, "It will be cancelled.");
    at("stop").onclick = () => this.#act("PUT", `${this.url}/stop`, "It stops at its next step, and the LoRA is finished.");
    at("retry").onclick = () => this.#act("POST", `/v1/requests/${id}/retry`, "It waits in the queue again.", true);
    // A stream that is open before a page has loaded would keep it loading for ever.
    if (document.readyState === "complete") this.begin();
    else window.addEventListener("load", () => this.begin());
  }

  begin() {
    this.end();
    this.stream = new EventSource(`${this.url}/status/stream?logs=1`);
    this.stream.onopen = () => {
      this.losses = new Map();
      this.lines = [];
      at("log").replaceChildren();
    };
    this.stream.onmessage = (event) => this.#hear(JSON.parse(event.data));
    this.stream.onerror = () => {
      at("where").textContent = "The connection is broken; it is being taken up again.";
      if (this.stream.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.begin(), AGAIN);
    };
  }

  end() {
    clearTimeout(this.timer);
    this.stream?.close();
  }

  async #act(method, path, done, again = false) {
    try {
      await ask(method, path);
      say(done);
      if (again) this.begin();
    } catch (problem) {
      say(problem.message, true);
    }
  }

  #hear(news) {
    for (const line of news.logs ?? []) this.#log(line);
    if (news.step && Number.isFinite(news.metrics?.loss)) this.losses.set(news.step, news.metrics.loss);
    this.#showState(news);
    if (this.losses.size && this.kind === "training") {
      at("loss").hidden = false;
      const count = drawCurve(at("curve"), this.losses, news.total_steps);
      at("loss-note").textContent = `${count} values; the thick line is their running mean.`;
    }
    if (news.status === "COMPLETED") {
      this.end();
      this.#finish(news);
    }
  }

  #showState(news) {
    const isRunning = news.status === "IN_PROGRESS";
    const [text, style] = stateOf(news);
    at("state").textContent = text;
    at("state").className = `tag ${style}`;
    at("where").textContent = whereOf(news);
    at("meter").value = news.status === "COMPLETED" ? 1 : (news.progress ?? 0);
    at("meter").hidden = !(isRunning && news.progress !== null);
    at("cancel").hidden = news.status === "COMPLETED" || Boolean(news.cancel_requested);
    at("stop").hidden = !(isRunning && this.kind === "training" && news.step > 0) || Boolean(news.stop_requested || news.cancel_requested);
    at("retry").hidden = !(news.status === "COMPLETED" && news.error_type);
    at("problem").hidden = true;
  }

  #log(line) {
    const known = STEP.exec(line.message);
    if (known) this.losses.set(Number(known[1]), Number(known[3]));
    this.lines.push(line.message);
    const log = at("log");
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    const written = document.createElement("div");
    written.className = line.level;
    written.textContent = `${new Date(line.timestamp).toLocaleTimeString()}  ${line.message}`;
    log.append(written);
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }

  async #finish(news) {
    if (news.error_type) {
      const problem = at("problem");
      const cause = document.createElement("strong");
      cause.textContent = news.error;
      const tail = document.createElement("pre");
      tail.textContent = this.lines.slice(-SHOWN_LINES).join("\n");
      problem.replaceChildren(cause, ...(tail.textContent ? [tail] : []));
      problem.hidden = false;
      return;
    }
    try {
      const output = await ask("GET", this.url);
      at("results").hidden = false;
      await showResult(at("output"), output, this.uses, this.input);
    } catch (problem) {
      at("problem").textContent = problem.message;
      at("problem").hidden = false;
    }
  }
}

function stateOf(news) {
  if (news.status === "IN_QUEUE") return ["waits", ""];
  if (news.status === "IN_PROGRESS") return [news.cancel_requested ? "is being cancelled" : news.stop_requested ? "finishes" : "runs", "busy"];
  if (news.error_type === "client_cancelled") return ["cancelled", ""];
  return news.error_type ? ["failed", "wrong"] : ["done", "good"];
}

function whereOf(news) {
  if (news.status === "IN_QUEUE") return news.queue_position ? `${news.queue_position} before it` : "next in line";
  const parts = [];
  if (news.total_steps) parts.push(`step ${news.step} / ${news.total_steps}`);
  if (news.status === "COMPLETED") {
    if (news.metrics?.inference_time !== undefined) parts.push(`took ${duration(news.metrics.inference_time)}`);
    if (news.usage?.cost_at_fal) parts.push(`$${news.usage.cost_at_fal.toFixed(2)} at fal`);
    return parts.join(" · ");
  }
  if (Number.isFinite(news.metrics?.loss)) parts.push(`loss ${news.metrics.loss.toPrecision(3)}`);
  if (news.metrics?.steps_per_second) parts.push(`${news.metrics.steps_per_second.toPrecision(2)} steps/s`);
  if (Number.isFinite(news.eta)) parts.push(`${duration(news.eta)} left`);
  return parts.join(" · ") || "begins";
}

export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
