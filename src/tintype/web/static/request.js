// A request's own page: followed if it goes on, shown as it ended, and as code that sends it again.
import { showCode } from "./code.js";
import { Run } from "./follow.js";
import { toQuery } from "./form_values.js";

const { id, endpoint, kind, origin, input: text } = document.getElementById("request").dataset;
const input = JSON.parse(text);
const again = document.getElementById("again");
if (again) again.href += `?${toQuery(input)}`;
showCode(endpoint, origin, () => input);
new Run(id, endpoint, kind, input);
