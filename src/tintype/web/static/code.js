// Writes a request as a program in each language; what it prints runs as it stands, with FAL_KEY in the environment.

export const LANGUAGES = { python, javascript, curl, json: (_, body) => JSON.stringify(body, null, 2) };

export function showCode(endpoint, origin, body) {
  const code = document.getElementById("code");
  const panel = document.getElementById("code-panel");
  const chosen = () => panel.querySelector('[aria-selected="true"]');
  const show = () => {
    code.textContent = LANGUAGES[chosen().dataset.language](endpoint, body(), origin);
    code.setAttribute("aria-labelledby", chosen().id);
  };
  const tabs = [...panel.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => {
      for (const one of tabs) {
        one.setAttribute("aria-selected", String(one === tab));
        one.tabIndex = one === tab ? 0 : -1;
      }
      show();
    });
    tab.addEventListener("keydown", (event) => {
      const next = { ArrowRight: index + 1, ArrowLeft: index - 1 }[event.key];
      if (next === undefined) return;
      tabs.at(next % tabs.length).focus();
      tabs.at(next % tabs.length).click();
    });
  });
  show();
  return show;
}

function python(endpoint, body, origin) {
  return `import fal_client
import fal_client.client as c

origin = ${JSON.stringify(origin)}
c.RUN_URL_FORMAT, c.QUEUE_URL_FORMAT = origin + "/run/", origin + "/queue/"
c.REST_URL, c.CDN_URL, c.REALTIME_URL_FORMAT = origin + "/rest", origin + "/cdn", origin.replace("http", "ws") + "/run/"

result = fal_client.subscribe(
    ${JSON.stringify(endpoint)},
    arguments=${literal(body, 4)},
)
print(result)
`;
}

function javascript(endpoint, body, origin) {
  return `import { fal } from "@fal-ai/client";

const ORIGIN = ${JSON.stringify(origin)};
const prefix = { "queue.fal.run": "/queue", "fal.run": "/run", "rest.fal.ai": "/rest" };
fal.config({
  credentials: process.env.FAL_KEY,
  fetch: (target, init) => {
    const u = new URL(target);
    return fetch(u.host in prefix ? ORIGIN + prefix[u.host] + u.pathname + u.search : u, init);
  },
});

const { data } = await fal.subscribe(${JSON.stringify(endpoint)}, {
  input: ${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")},
});
console.log(data);
`;
}

function curl(endpoint, body, origin) {
  return `curl --silent --show-error ${origin}/run/${endpoint} \\
  --header "Authorization: Key $FAL_KEY" \\
  --header "Content-Type: application/json" \\
  --data @- <<'END_OF_INPUT'
${JSON.stringify(body, null, 2)}
END_OF_INPUT
`;
}

// Writes a value as Python does.
function literal(value, indent) {
  const inner = " ".repeat(indent + 4);
  const outer = " ".repeat(indent);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) {
    return value.length ? `[\n${value.map((one) => `${inner}${literal(one, indent + 4)},\n`).join("")}${outer}]` : "[]";
  }
  if (typeof value === "object") {
    const lines = Object.entries(value).map(([name, one]) => `${inner}${JSON.stringify(name)}: ${literal(one, indent + 4)},\n`);
    return lines.length ? `{\n${lines.join("")}${outer}}` : "{}";
  }
  return JSON.stringify(value);
}
