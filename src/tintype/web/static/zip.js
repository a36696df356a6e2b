// Writes an archive of files as they are (ZIP, stored): photos do not get smaller by packing.

const TABLE = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});
const UTF8 = 0x0800; // the flag for names in UTF-8

export async function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of unlike(files)) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const path = new TextEncoder().encode(name);
    const about = [20, UTF8, 0, 0, 0x21, crc32(bytes), bytes.length, bytes.length, path.length, 0];
    const sizes = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2];
    const head = [fields([4], [0x04034b50]), fields(sizes, about), path];
    directory.push(fields([4, 2], [0x02014b50, 20]), fields(sizes, about), fields([2, 2, 2, 4, 4], [0, 0, 0, 0, offset]), path);
    parts.push(...head, bytes);
    offset += 30 + path.length + bytes.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const count = directory.length / 4;
  const end = fields([4, 2, 2, 2, 2, 4, 4, 2], [0x06054b50, 0, 0, count, count, length, offset, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Two files of one name would become one.
function unlike(files) {
  const taken = new Set();
  return files.map(({ name, blob }) => {
    let free = name;
    for (let number = 2; taken.has(free); number += 1) free = name.replace(/(\.[^.]*)?$/, `-${number}$1`);
    taken.add(free);
    return { name: free, blob };
  });
}

function fields(sizes, values) {
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  sizes.forEach((size, index) => {
    if (size === 2) view.setUint16(at, values[index], true);
    else view.setUint32(at, values[index], true);
    at += size;
  });
  return bytes;
}

function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
