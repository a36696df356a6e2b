// Photos on their way into a training: dropped, chosen, pasted or taken from a dropped folder, each with its caption.
// They become one archive that is uploaded when the form is sent; an archive that is dropped goes as it is.
import { upload } from "./api.js";
import { zip } from "./zip.js";

const ARCHIVE = /\.(zip|tar|tgz|tar\.\w+|7z|rar)$/i;
const SHOWN = /^image\/(jpeg|png|webp|gif|avif|bmp)$/; // what browsers draw

export class Photos {
  constructor(drop, input, onChange) {
    this.drop = drop;
    this.input = input;
    this.list = drop.querySelector(".photos");
    this.told = drop.querySelector("[data-told]");
    this.onChange = onChange;
    this.photos = []; // {name, blob, caption: textarea}
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
      const files = [...event.clipboardData.files];
      if (files.length) this.take(files);
    });
  }

  get count() {
    return this.photos.length;
  }

  clear() {
    this.photos = [];
    this.list.replaceChildren();
    this.#tell();
  }

  async take(files) {
    const texts = files.filter((file) => file.name.toLowerCase().endsWith(".txt"));
    const others = files.filter((file) => !texts.includes(file));
    if (others.length === 1 && ARCHIVE.test(others[0].name)) return this.#send(others[0], others[0].name);
    for (const file of others) if (!file.name.startsWith(".")) this.#add(file);
    for (const text of texts) {
      const photo = this.photos.find((one) => stem(one.name) === stem(text.name));
      if (photo) photo.caption.value = (await text.text()).trim();
    }
    this.input.value = "";
    this.#tell();
    this.onChange();
  }

  // Uploads what is there, so that the input holds its URL.
  async settle() {
    if (!this.photos.length || this.input.value) return;
    const captions = this.photos.filter((one) => one.caption.value.trim());
    const files = [
      ...this.photos,
      ...captions.map((one) => ({ name: `${stem(one.name)}.txt`, blob: new Blob([one.caption.value.trim()]) })),
    ];
    await this.#send(await zip(files), "photos.zip");
  }

  #add(file) {
    const row = document.createElement("li");
    const caption = document.createElement("textarea");
    const name = document.createElement("div");
    const remove = document.createElement("button");
    const photo = { name: file.name || "pasted.png", blob: file, caption };
    name.className = "name";
    name.textContent = name.title = photo.name;
    caption.setAttribute("aria-label", `Caption of ${photo.name}`);
    caption.placeholder = "caption";
    caption.addEventListener("input", () => this.#changed());
    remove.type = "button";
    remove.className = "tiny";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `Remove ${photo.name}`);
    remove.addEventListener("click", () => {
      this.photos = this.photos.filter((one) => one !== photo);
      row.remove();
      this.#changed();
    });
    row.append(this.#thumbnail(file), name, caption, remove);
    this.list.append(row);
    this.photos.push(photo);
  }

  #thumbnail(file) {
    const none = document.createElement("div");
    none.className = "none";
    none.textContent = file.name.split(".").pop().toUpperCase();
    if (!SHOWN.test(file.type)) return none;
    const image = document.createElement("img");
    image.alt = "";
    image.src = URL.createObjectURL(file);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src));
    image.addEventListener("error", () => {
      none.textContent = "cannot be shown";
      image.replaceWith(none);
    });
    return image;
  }

  #changed() {
    this.input.value = "";
    this.#tell();
    this.onChange();
  }

  #tell() {
    const size = this.photos.reduce((sum, one) => sum + one.blob.size, 0);
    this.told.textContent = this.photos.length ? `${this.photos.length} files, ${(size / 1e6).toFixed(1)} MB` : "";
  }

  async #send(blob, name) {
    const told = this.told.textContent;
    this.input.value = await upload(blob, name, (share) => (this.told.textContent = `${told} ${Math.round(share * 100)} % sent`));
    this.told.textContent = told || `${name} is here.`;
    this.onChange();
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

function stem(name) {
  return name.replace(/\.[^.]*$/, "");
}
