// Photos on their way into a training: dropped, chosen, pasted or taken from a dropped folder. They are kept at once as a
// dataset, so that a reload loses nothing; captions are saved as they are written, and what a training would make of the
// photos is said beside each.
import { ask, say, send } from "./api.js";

const DATASET = /\/v1\/datasets\/([\w-]+)$/;
const SAVED = 600; // milliseconds after the last letter of a caption

export class Photos {
  // `about` tells the endpoint and the inputs that a report depends on; `onChange` hears of every change.
  constructor(drop, input, about, onChange) {
    Object.assign(this, { drop, input, about, onChange, count: 0, work: Promise.resolve() });
    this.list = drop.querySelector(".photos");
    this.told = drop.querySelector("[data-told]");
    this.tools = drop.querySelector("[data-tools]");
    drop.querySelector("input[type=file]").addEventListener("change", (event) => {
      this.take([...event.target.files]);
      event.target.value = "";
    });
    for (const type of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", type === "dragover");
      });
    }
    drop.addEventListener("drop", async (event) => this.take(await filesOf(event.dataTransfer)));
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) this.take([...event.clipboardData.files]);
    });
    this.tools?.querySelector("button").addEventListener("click", () => this.#edit());
    input.addEventListener("change", () => (this.id ? this.#show() : this.clear()));
    if (this.id) this.#show();
  }

  get id() {
    return DATASET.exec(this.input.value)?.[1];
  }

  get url() {
    return `/v1/datasets/${this.id}`;
  }

  clear() {
    this.list.replaceChildren();
    this.told.textContent = "";
    this.#count();
  }

  // Waits until everything that was dropped and written is kept.
  async settle() {
    await this.work;
  }

  take(files) {
    const wanted = files.filter((file) => !file.name.startsWith("."));
    this.work = this.work.then(() => this.#add(wanted)).catch((problem) => say(problem.message, true));
    return this.work;
  }

  async #add(files) {
    const left = [];
    if (!this.id) {
      const made = await ask("POST", "/v1/datasets", { name: `Photos of ${new Date().toLocaleString()}` });
      this.input.value = made.url;
    }
    for (const [index, file] of files.entries()) {
      this.told.textContent = `${index + 1} of ${files.length} is being added …`;
      try {
        const answer = await send("POST", `${this.url}/photos`, file, file.name || "pasted.png");
        left.push(...answer.left_out);
      } catch (problem) {
        left.push({ name: file.name, what: problem.message });
      }
    }
    await this.#show(left);
  }

  async #show(left = []) {
    const photos = [];
    try {
      for (let cursor = ""; cursor !== null; ) {
        const page = await ask("GET", `${this.url}/photos?limit=100${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
        photos.push(...page.photos);
        cursor = page.next_cursor;
      }
    } catch (problem) {
      this.told.textContent = problem.message;
      return;
    }
    this.list.replaceChildren(...photos.map((photo) => this.#row(photo)));
    this.left = left;
    this.#count();
    await this.report();
    this.onChange();
  }

  #row(photo) {
    const row = document.createElement("li");
    const image = document.createElement("img");
    const name = document.createElement("div");
    const caption = document.createElement("textarea");
    const remove = document.createElement("button");
    row.dataset.photo = photo.photo_id;
    image.src = new URL(photo.thumbnail_url, window.location.href).pathname;
    image.alt = photo.name;
    image.loading = "lazy";
    name.className = "name";
    name.textContent = name.title = photo.name;
    caption.value = photo.caption ?? "";
    caption.placeholder = "caption";
    caption.title = photo.caption_by ? `written by ${photo.captioner ?? photo.caption_by}` : "";
    caption.setAttribute("aria-label", `Caption of ${photo.name}`);
    caption.addEventListener("input", () => this.#save(photo.photo_id, caption));
    remove.type = "button";
    remove.className = "tiny";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `Remove ${photo.name}`);
    remove.addEventListener("click", async () => {
      await this.#try(() => ask("DELETE", `${this.url}/photos/${photo.photo_id}`));
      await this.#show();
    });
    row.append(image, name, caption, remove);
    return row;
  }

  #save(id, caption) {
    clearTimeout(caption.timer);
    let done;
    const saved = new Promise((resolve) => (done = resolve));
    this.work = Promise.all([this.work, saved]);
    caption.done?.();
    caption.done = done;
    caption.timer = setTimeout(async () => {
      await this.#try(() => ask("PATCH", `${this.url}/photos/${id}`, { caption: caption.value }));
      done();
    }, SAVED);
  }

  async #edit() {
    const [find, replace] = this.tools.querySelectorAll("input");
    const answer = await this.#try(() => ask("POST", `${this.url}/captions/edit`, { find: find.value, replace: replace.value }));
    if (!answer) return;
    say(`${answer.captions.length} captions were changed.`);
    await this.#show();
  }

  // Says what a training would make of the photos, with the inputs as they are now.
  async report() {
    if (!this.id || !this.count) return;
    const { endpoint, inputs } = this.about();
    const answer = await this.#try(() => ask("GET", `${this.url}/report?${new URLSearchParams({ endpoint_id: endpoint, ...inputs })}`));
    if (!answer) return;
    for (const one of answer.photos) {
      const row = this.list.querySelector(`[data-photo="${one.photo_id}"]`);
      row?.querySelector(".marks")?.remove();
      if (!row || !one.marks.length) continue;
      const marks = document.createElement("div");
      marks.className = "marks";
      marks.textContent = one.marks.map((mark) => mark.replaceAll("_", " ")).join(", ");
      row.querySelector(".name").after(marks);
    }
    const lines = [
      `${this.count} photos.`,
      ...(answer.problem ? [answer.problem] : []),
      ...(answer.report?.warnings ?? []),
      ...(this.left ?? []).map((one) => `Left out: ${one.name}: ${one.what}`),
    ];
    this.told.replaceChildren(
      ...lines.map((line) => {
        const made = document.createElement("span");
        made.textContent = line;
        return made;
      }),
    );
  }

  async #try(work) {
    try {
      return await work();
    } catch (problem) {
      say(problem.message, true);
      return null;
    }
  }

  #count() {
    this.count = this.list.children.length;
    if (this.tools) this.tools.hidden = !this.count;
  }
}

async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesBelow))).flat();
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail)); // a hundred at a time
    if (!some.length) return (await Promise.all(found.map(filesBelow))).flat();
    found.push(...some);
  }
}
