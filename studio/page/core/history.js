/** Undo and redo: what changed of each plane, as runs of values within a box, and the state beside the planes. */

import { boundingBox } from "./raster.js";

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Size} Size */

/** @typedef {{plane: number, box: Box, before: Uint32Array, after: Uint32Array}} Patch */

/**
 * @template State
 * @typedef {{patches: Patch[], before: State, after: State, key: string, at: number}} Step
 */

export const MAX_STEPS = 100;

/** Milliseconds within which steps with the same key become one: an arrow key held down. */
export const MERGE_WITHIN = 1000;

const LONGEST_RUN = (1 << 24) - 1;

/**
 * The values within a box as runs, each `length << 8 | value`.
 * @param {Readonly<Uint8Array>} plane
 * @param {Size} size
 * @param {Box} box
 * @returns {Uint32Array}
 */
export function packRuns(plane, size, box) {
  /** @type {number[]} */
  const runs = [];
  let value = -1;
  let length = 0;
  for (let row = box.top; row < box.bottom; row += 1) {
    for (let index = row * size.width + box.left; index < row * size.width + box.right; index += 1) {
      if (plane[index] === value && length < LONGEST_RUN) {
        length += 1;
        continue;
      }
      if (length) runs.push(length * 256 + value);
      value = plane[index];
      length = 1;
    }
  }
  if (length) runs.push(length * 256 + value);
  return Uint32Array.from(runs);
}

/**
 * The inverse of `packRuns`, written into the plane.
 * @param {Uint8Array} plane
 * @param {Size} size
 * @param {Box} box
 * @param {Uint32Array} runs
 */
export function unpackRuns(plane, size, box, runs) {
  let place = 0;
  let left = 0;
  let value = 0;
  for (let row = box.top; row < box.bottom; row += 1) {
    for (let index = row * size.width + box.left; index < row * size.width + box.right; index += 1) {
      if (!left) {
        left = runs[place] >>> 8;
        value = runs[place] & 255;
        place += 1;
      }
      plane[index] = value;
      left -= 1;
    }
  }
}

/**
 * The smallest box outside which two planes are equal, or null where they are equal everywhere.
 * @param {Readonly<Uint8Array>} first
 * @param {Readonly<Uint8Array>} second
 * @param {Size} size
 * @returns {Box | null}
 */
export function differenceBox(first, second, size) {
  const { width } = size;
  return boundingBox(size, (start) => {
    let from = 0;
    while (from < width && first[start + from] === second[start + from]) from += 1;
    if (from === width) return null;
    let to = width;
    while (first[start + to - 1] === second[start + to - 1]) to -= 1;
    return [from, to];
  });
}

/**
 * The steps made so far, and those taken back.
 * @template State
 */
export class History {
  /** @param {Size} size */
  constructor(size) {
    this.size = size;
    /** @type {Step<State>[]} */
    this.done = [];
    /** @type {Step<State>[]} */
    this.undone = [];
  }

  /**
   * Record a step that was made; steps that were taken back are forgotten.
   * @param {readonly Uint8Array[]} before  the planes as they were
   * @param {readonly Uint8Array[]} after  the planes as they are
   * @param {State} stateBefore
   * @param {State} stateAfter
   * @param {string} key  steps with the same key, shortly after one another, become one; "" for none
   * @param {number} now  in milliseconds
   * @returns {boolean} whether anything changed
   */
  record(before, after, stateBefore, stateAfter, key = "", now = 0) {
    const last = this.done.at(-1);
    if (key && last && last.key === key && now - last.at < MERGE_WITHIN && !this.undone.length) {
      const earlier = before.map((plane) => Uint8Array.from(plane));
      this._write(earlier, last.patches, "before");
      this.done.pop();
      const patches = this._differences(earlier, after);
      this.done.push({ patches, before: last.before, after: stateAfter, key, at: now });
      return true;
    }
    const patches = this._differences(before, after);
    if (!patches.length && stateBefore === stateAfter) return false;
    this.done.push({ patches, before: stateBefore, after: stateAfter, key, at: now });
    if (this.done.length > MAX_STEPS) this.done.shift();
    this.undone = [];
    return true;
  }

  /**
   * Take the last step back.
   * @param {readonly Uint8Array[]} planes
   * @returns {Step<State> | null} null where there is none
   */
  undo(planes) {
    const step = this.done.pop();
    if (!step) return null;
    this._write(planes, step.patches, "before");
    this.undone.push(step);
    return step;
  }

  /**
   * Make the step again that was taken back last.
   * @param {readonly Uint8Array[]} planes
   * @returns {Step<State> | null}
   */
  redo(planes) {
    const step = this.undone.pop();
    if (!step) return null;
    this._write(planes, step.patches, "after");
    this.done.push(step);
    return step;
  }

  /**
   * @param {readonly Uint8Array[]} before
   * @param {readonly Uint8Array[]} after
   * @returns {Patch[]}
   */
  _differences(before, after) {
    /** @type {Patch[]} */
    const patches = [];
    after.forEach((plane, place) => {
      const box = differenceBox(before[place], plane, this.size);
      if (!box) return;
      patches.push({
        plane: place,
        box,
        before: packRuns(before[place], this.size, box),
        after: packRuns(plane, this.size, box),
      });
    });
    return patches;
  }

  /**
   * @param {readonly Uint8Array[]} planes
   * @param {readonly Patch[]} patches
   * @param {"before" | "after"} which
   */
  _write(planes, patches, which) {
    for (const patch of patches) unpackRuns(planes[patch.plane], this.size, patch.box, patch[which]);
  }
}
