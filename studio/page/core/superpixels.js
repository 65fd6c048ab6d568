/** Small regions of similar color that a brush takes whole. */

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Point} Point */
/** @typedef {import("./raster.js").Size} Size */

export class Superpixels {
  /**
   * @param {Size} size
   * @param {Uint16Array} numbers  each pixel's region
   */
  constructor(size, numbers) {
    this.size = size;
    this.numbers = numbers;
    const count = numbers.reduce((most, number) => Math.max(most, number), 0) + 1;
    /** Where each region's pixels begin in `_pixels`. */
    this._starts = new Uint32Array(count + 1);
    for (const number of numbers) this._starts[number + 1] += 1;
    for (let number = 0; number < count; number += 1) this._starts[number + 1] += this._starts[number];
    this._pixels = new Uint32Array(numbers.length);
    const next = this._starts.slice();
    numbers.forEach((number, index) => {
      this._pixels[next[number]] = index;
      next[number] += 1;
    });
  }

  /**
   * Give every region on a line a class, but for pixels of locked classes.
   * @param {Uint8Array} plane
   * @param {Point} from
   * @param {Point} to
   * @param {number} value
   * @param {Readonly<Uint8Array>} locked
   * @returns {Box | null} what was reached
   */
  paint(plane, from, to, value, locked) {
    const { width, height } = this.size;
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    /** @type {Set<number>} */
    const reached = new Set();
    for (let step = 0; step <= steps; step += 1) {
      const column = Math.floor(from.x + ((to.x - from.x) * step) / steps);
      const row = Math.floor(from.y + ((to.y - from.y) * step) / steps);
      if (column >= 0 && row >= 0 && column < width && row < height) reached.add(this.numbers[row * width + column]);
    }
    let [left, top, right, bottom] = [width, height, 0, 0];
    for (const number of reached) {
      for (const index of this._pixels.subarray(this._starts[number], this._starts[number + 1])) {
        if (!locked[plane[index]]) plane[index] = value;
        const column = index % width;
        const row = (index - column) / width;
        left = Math.min(left, column);
        right = Math.max(right, column + 1);
        top = Math.min(top, row);
        bottom = Math.max(bottom, row + 1);
      }
    }
    return bottom ? { left, top, right, bottom } : null;
  }
}
