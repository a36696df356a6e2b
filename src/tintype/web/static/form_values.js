// Reads a form into the body of a request, writes such a body into the form, and shows errors at the fields they name.
// A path such as "loras.0.path" says where in the body a value stands; "__" in a template is the number of a row.

export function read(form) {
  const body = {};
  for (const input of form.querySelectorAll("[data-path]")) {
    const other = input.closest("[data-of]");
    if (other?.hidden) continue;
    const value = valueOf(input);
    if (value === undefined) continue;
    const inPart = input.closest("[data-rows]") || other;
    if (!inPart && !("required" in input.dataset) && same(value, JSON.parse(input.dataset.default))) continue;
    put(body, input.dataset.path.split("."), value);
  }
  return body;
}

export function write(form, body) {
  for (const rows of form.querySelectorAll("[data-rows]")) {
    rows.replaceChildren();
    const list = body[rows.dataset.rows];
    if (Array.isArray(list)) for (const _ of list) addRow(form, rows.dataset.rows);
  }
  for (const input of form.querySelectorAll("[data-path]")) {
    const given = input.dataset.path.split(".").reduce((part, name) => part?.[name], body);
    const value = given === undefined ? JSON.parse(input.dataset.default) : given;
    if (input.dataset.kind === "switch") input.checked = value === true || value === "true";
    else if (input.dataset.kind === "choice_or_object") writeChoice(form, input, given, value);
    else if (input.dataset.kind === "json") input.value = value === null ? "" : JSON.stringify(value);
    else input.value = value === null || typeof value === "object" ? "" : value;
    if (input.dataset.slider) document.getElementById(input.dataset.slider).value = input.value;
  }
}

// A link has a form's values in its query: ?prompt=…&loras.0.path=…
export function fromQuery(query) {
  const body = {};
  for (const [path, value] of new URLSearchParams(query)) {
    const names = path.split(".");
    if (names.some((name) => name === "__proto__" || name === "constructor")) continue;
    put(body, names, value);
  }
  return body;
}

export function toQuery(body) {
  const query = new URLSearchParams();
  const add = (path, value) => {
    if (value !== null && typeof value === "object") for (const [name, part] of Object.entries(value)) add([...path, name], part);
    else query.append(path.join("."), value);
  };
  add([], body);
  return query.toString();
}

export function addRow(form, path) {
  const rows = form.querySelector(`[data-rows="${path}"]`);
  if (rows.dataset.most && rows.children.length >= Number(rows.dataset.most)) return null;
  const made = form.querySelector(`template[data-row="${path}"]`).content.cloneNode(true);
  rows.append(made);
  const row = rows.lastElementChild;
  row.querySelector(".remove").addEventListener("click", () => {
    row.remove();
    number(rows);
    form.dispatchEvent(new Event("input", { bubbles: true }));
  });
  number(rows);
  return row;
}

export function showErrors(form, details) {
  clearErrors(form);
  const elsewhere = [];
  let first = null;
  for (const { loc, msg } of details) {
    const names = loc[0] === "body" ? loc.slice(1) : loc;
    const field = fieldOf(form, names);
    if (!field) {
      elsewhere.push(names.length ? `${names.join(".")}: ${msg}` : msg);
      continue;
    }
    const input = field.querySelector("[data-path]") ?? field;
    const note = document.createElement("p");
    note.className = "wrong-input";
    note.id = `${input.id || field.id}-wrong`;
    note.textContent = msg;
    field.append(note);
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", note.id);
    for (let outer = field.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
    first ??= input;
  }
  first?.focus();
  return elsewhere;
}

export function clearErrors(form) {
  for (const note of form.querySelectorAll(".wrong-input")) note.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-errormessage");
  }
}

function fieldOf(form, names) {
  for (let count = names.length; count > 0; count -= 1) {
    const path = names.slice(0, count).join(".");
    const found = [...form.querySelectorAll("[data-field]")].find((field) => field.dataset.field === path);
    if (found) return found;
  }
  return null;
}

function valueOf(input) {
  const text = input.value;
  switch (input.dataset.kind) {
    case "switch":
      return input.checked || JSON.parse(input.dataset.default) !== null ? input.checked : undefined;
    case "slider":
    case "number":
      return text === "" ? undefined : Number(text);
    case "seed":
      return text.trim() === "" ? undefined : Number.isSafeInteger(Number(text)) ? Number(text) : text.trim();
    case "choice_or_object":
      return text === "" || text === "__other" ? undefined : text;
    case "json":
      try {
        return text.trim() === "" ? undefined : JSON.parse(text);
      } catch {
        return text;
      }
    default:
      return text === "" ? undefined : text;
  }
}

function writeChoice(form, input, given, value) {
  const other = document.getElementById(input.dataset.other);
  const isOther = given !== null && typeof given === "object";
  input.value = isOther ? "__other" : (value ?? "");
  other.hidden = !isOther;
}

function number(rows) {
  [...rows.children].forEach((row, index) => {
    for (const one of row.querySelectorAll("[data-path], [data-field], [id], [for], [aria-describedby], [data-upload], [data-slider]")) {
      for (const name of ["data-path", "data-field"]) renumber(one, name, `${rows.dataset.rows}.`, index, ".");
      for (const name of ["id", "for", "aria-describedby", "data-upload", "data-slider"]) {
        renumber(one, name, `input-${rows.dataset.rows.replaceAll(".", "-")}-`, index, "-");
      }
    }
  });
}

function renumber(one, attribute, prefix, index, separator) {
  const value = one.getAttribute(attribute);
  if (!value?.startsWith(prefix)) return;
  const [, ...rest] = value.slice(prefix.length).split(separator);
  one.setAttribute(attribute, prefix + [index, ...rest].join(separator));
}

function put(body, names, value) {
  let place = body;
  names.forEach((name, index) => {
    if (index === names.length - 1) place[name] = value;
    else place = place[name] ??= /^\d+$/.test(names[index + 1]) ? [] : {};
  });
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
