// fal's client, turned to TINTYPE_ORIGIN by the recipe in RECIPE (docs/clients.md); without one, it is left alone.
import { fal } from "@fal-ai/client";

const ORIGIN = process.env.TINTYPE_ORIGIN;
const PREFIX = { "queue.fal.run": "/queue", "fal.run": "/run", "rest.fal.ai": "/rest" };

const turned = (target) => {
  const u = new URL(target);
  return u.host in PREFIX ? ORIGIN + PREFIX[u.host] + u.pathname + u.search : target;
};
const RECIPES = {
  E: { fetch: (target, init) => fetch(turned(target), init) },
  F: { requestMiddleware: async (request) => ({ ...request, url: turned(request.url) }) },
  G: { proxyUrl: { url: `${ORIGIN}/fal/proxy`, when: "always" } },
};
const recipe = process.env.RECIPE ?? "E";
if (recipe in RECIPES) fal.config({ credentials: process.env.FAL_KEY, ...RECIPES[recipe] });

// What an error told its program.
export const told = (error) => ({
  name: error.name, status: error.status, message: error.message, requestId: error.requestId, body: error.body,
  isUserTimeout: error.isUserTimeout, fields: error.fieldErrors?.map((field) => field.loc.join(".")),
});

// What a call came to, errors included.
export const outcome = async (promise) => {
  try {
    return { value: await promise };
  } catch (error) {
    return { error: told(error) };
  }
};

export { fal };
