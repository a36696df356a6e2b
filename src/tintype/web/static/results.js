// Draws what a request came to: pictures with their seeds, files to keep, and what to do with a LoRA next.

// `input` is what was sent: it has the word that the LoRA knows.
export async function showResult(place, output, uses, input) {
  place.replaceChildren();
  const files = [...filesIn(output)];
  const images = files.filter(({ file }) => file.content_type?.startsWith("image/"));
  const others = files.filter((one) => !images.includes(one));
  const next = nextOf(output, uses, input);
  if (next.length) place.append(rowOf(next));
  if (images.length) place.append(galleryOf(images, output.seed));
  if (output.prompt) place.append(paragraph(output.prompt, "quiet small"));
  if (others.length) place.append(listOf(others));
  const config = others.find(({ name }) => name === "config_file");
  if (config) await showConfig(place, config.file.url);
}

function* filesIn(value, name = "") {
  if (value === null || typeof value !== "object") return;
  if (typeof value.url === "string" && "content_type" in value) yield { name, file: value };
  else for (const [key, part] of Object.entries(value)) yield* filesIn(part, Array.isArray(value) ? name : key);
}

// The links that open a form with this LoRA or model in it, and the word that it knows.
function nextOf(output, uses, input) {
  const lora = output.diffusers_lora_file?.url;
  return uses.flatMap((use) => {
    const query = new URLSearchParams();
    if (use.model && output.model_id) query.set(use.model, output.model_id);
    else if (use.lora && lora) query.set(use.lora, lora);
    else return [];
    if (input[use.trigger]) query.set("prompt", `a portrait of ${input[use.trigger]}`);
    return [{ href: `/models/${use.id}?${query}`, text: `Use it: ${use.title}` }];
  });
}

function rowOf(links) {
  const row = document.createElement("p");
  row.className = "row";
  links.forEach(({ href, text }, index) => {
    const link = document.createElement("a");
    link.href = href;
    link.textContent = text;
    link.className = index ? "button" : "button primary";
    row.append(link);
  });
  return row;
}

function galleryOf(images, seed) {
  const gallery = document.createElement("div");
  gallery.className = "gallery";
  images.forEach(({ file }, index) => {
    const figure = document.createElement("figure");
    const link = document.createElement("a");
    const image = document.createElement("img");
    const caption = document.createElement("figcaption");
    const own = seed === undefined ? "" : String(BigInt(Math.trunc(seed)) + BigInt(index));
    link.href = safe(file.url);
    image.src = safe(file.url);
    image.alt = own ? `Image ${index + 1}, seed ${own}` : `Image ${index + 1}`;
    caption.textContent = [own && `seed ${own}`, file.width && `${file.width} × ${file.height}`].filter(Boolean).join(" · ");
    link.append(image);
    figure.append(link, caption);
    gallery.append(figure);
  });
  return gallery;
}

function listOf(files) {
  const list = document.createElement("ul");
  for (const { name, file } of files) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = safe(file.url);
    link.textContent = file.file_name || name;
    const size = file.file_size ? `, ${(file.file_size / 1e6).toFixed(2)} MB` : "";
    item.append(`${name.replaceAll("_", " ")}: `, link, size);
    list.append(item);
  }
  return list;
}

async function showConfig(place, url) {
  const answer = await fetch(safe(url));
  if (!answer.ok) return;
  const config = await answer.json();
  const samples = config.samples ?? [];
  if (samples.length) {
    const head = document.createElement("h3");
    head.textContent = "Samples";
    const shown = document.createElement("div");
    shown.className = "samples";
    for (const file of samples) {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      const caption = document.createElement("figcaption");
      image.src = safe(file.url);
      image.alt = caption.textContent = (file.file_name ?? "sample").replace(/\.\w+$/, "").replaceAll("-", " ");
      image.loading = "lazy";
      figure.append(image, caption);
      shown.append(figure);
    }
    place.append(head, shown);
  }
  const report = config.report_html;
  if (report) {
    const link = document.createElement("a");
    link.href = safe(report.url);
    link.textContent = "What became of every photo";
    const line = document.createElement("p");
    line.append(link);
    place.append(line);
  }
}

function paragraph(text, style) {
  const made = document.createElement("p");
  made.className = style;
  made.textContent = text;
  return made;
}

// An output's URL is followed only where it leads to a file. Our own are asked for where the page is from: a server has
// several names, and a configuration keeps the one that it was called by.
function safe(url) {
  const path = /^https?:\/\/[^/]+(\/cdn\/files\/.*)$/i.exec(url)?.[1];
  if (path) return path;
  return /^(https?:|data:image\/|\/)/i.test(url) ? url : "#";
}
