/** PNG files made from the bytes themselves: some browsers change what is read back from a canvas. */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, value) => {
  let sum = value;
  for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? 0xedb88320 ^ (sum >>> 1) : sum >>> 1;
  return sum >>> 0;
});

/**
 * An indexed picture of class ids.
 * @param {import("./raster.js").Size} size
 * @param {Uint8Array} ids
 * @param {readonly (readonly number[])[]} colors  RGB by class id
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function indexedPng(size, ids, colors) {
  return png(size, ids, 1, 3, [chunk("PLTE", Uint8Array.from(colors.flat()))]);
}

/**
 * A picture of RGB values.
 * @param {import("./raster.js").Size} size
 * @param {Uint8Array} rgb
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function rgbPng(size, rgb) {
  return png(size, rgb, 3, 2, []);
}

/**
 * @param {import("./raster.js").Size} size
 * @param {Uint8Array} values
 * @param {number} channels
 * @param {number} colorType  the format's number for the kind of picture
 * @param {Uint8Array[]} extra  chunks before the data
 */
async function png({ width, height }, values, channels, colorType, extra) {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, colorType], 8);
  const stride = width * channels;
  const rows = new Uint8Array(height * (stride + 1)); // each row begins with its filter: 0, none
  for (let row = 0; row < height; row += 1) {
    rows.set(values.subarray(row * stride, (row + 1) * stride), row * (stride + 1) + 1);
  }
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), ...extra, chunk("IDAT", data), chunk("IEND")];
  const file = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let place = 0;
  for (const part of parts) {
    file.set(part, place);
    place += part.length;
  }
  return file;
}

/**
 * @param {string} name
 * @param {Uint8Array} content
 */
function chunk(name, content = new Uint8Array()) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  let sum = 0xffffffff;
  for (const value of bytes.subarray(4, 8 + content.length)) sum = CHECKSUMS[(sum ^ value) & 255] ^ (sum >>> 8);
  view.setUint32(8 + content.length, ~sum >>> 0);
  return bytes;
}
