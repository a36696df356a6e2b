// Asks the server's own HTTP API; the session's cookie goes with it. A refusal becomes a Problem with its sentence.

export class Problem extends Error {
  constructor(message, status, detail) {
    super(message);
    this.status = status;
    this.detail = detail; // fal's list of {loc, msg}, where it is about an input
  }
}

export async function ask(method, path, body) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return answerOf(await reach(path, { method, ...sent }));
}

// Sends a file as it is, under its name; headers are bytes, and a name is sent as UTF-8.
export async function send(method, path, blob, name) {
  const bytes = new TextEncoder().encode(name.replace(/[\0-\x1f\x7f]/g, "_"));
  const headers = {
    "Content-Type": blob.type || "application/octet-stream",
    "X-Fal-File-Name": String.fromCharCode(...bytes),
  };
  return answerOf(await reach(path, { method, body: blob, headers }));
}

export async function upload(blob, name) {
  return (await send("POST", "/cdn/files/upload", blob, name)).access_url;
}

export function say(text, isProblem = false) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.className = isProblem ? "shown wrong" : "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (notice.className = ""), isProblem ? 12000 : 4000);
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw unreachable();
  }
}

async function answerOf(response) {
  const text = await response.text();
  let answer;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(`The server answered ${response.status} in a form that is no JSON.`, response.status);
  }
  if (response.ok) return answer;
  const message = answer?.message ?? answer?.error?.message ?? answer?.detail ?? `The server answered ${response.status}.`;
  throw new Problem(String(message), response.status, Array.isArray(answer?.detail) ? answer.detail : []);
}

function unreachable() {
  return new Problem("The server cannot be reached. What you entered is kept; try again when it is back.", 0, []);
}
