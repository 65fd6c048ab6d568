/** Frames, as `semia.studio.frames` has them: the length of a JSON head, the head, then bytes. */

/**
 * @param {object} head
 * @param {Uint8Array} body
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function packFrame(head, body = new Uint8Array()) {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const frame = new Uint8Array(4 + text.length + body.length);
  new DataView(frame.buffer).setUint32(0, text.length, true);
  frame.set(text, 4);
  frame.set(body, 4 + text.length);
  return frame;
}

/**
 * @param {ArrayBuffer} data
 * @returns {{head: any, body: Uint8Array}}
 */
export function unpackFrame(data) {
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  return { head, body: new Uint8Array(data, 4 + length) };
}
