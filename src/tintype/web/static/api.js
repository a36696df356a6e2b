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
  return answerOf(await send(path, { method, ...sent }));
}

export async function upload(blob, name, onProgress) {
  const type = blob.type || "application/octet-stream";
  const sent = new XMLHttpRequest(); // fetch does not tell how much was sent
  sent.open("POST", "/cdn/files/upload");
  sent.setRequestHeader("Content-Type", type);
  sent.setRequestHeader("X-Fal-File-Name", String.fromCharCode(...new TextEncoder().encode(name.replace(/[\0-\x1f\x7f]/g, "_"))));
  sent.upload.onprogress = (event) => onProgress?.(event.loaded / event.total);
  await new Promise((done, fail) => {
    sent.onload = done;
    sent.onerror = () => fail(unreachable());
    sent.send(blob);
  });
  return (await answerOf(new Response(sent.responseText, { status: sent.status }))).access_url;
}

export function say(text, isProblem = false) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.className = isProblem ? "shown wrong" : "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (notice.className = ""), isProblem ? 12000 : 4000);
}

async function send(path, options) {
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
