/** Regions cut out of a label map, and where they are put: moved, scaled, turned, mirrored. Pure functions. */

import { maskBox } from "./raster.js";

/** @typedef {import("./raster.js").Size} Size */
/** @typedef {import("./raster.js").Box} Box */

/**
 * @typedef {object} Region  a part of a plane, within its own box
 * @property {number} left  of the box, where it was cut out
 * @property {number} top
 * @property {number} width
 * @property {number} height
 * @property {Readonly<Uint8Array>} ids
 * @property {Readonly<Uint8Array>} mask
 */

/**
 * @typedef {object} Placement  where a region's box goes
 * @property {number} x  its centre
 * @property {number} y
 * @property {number} scaleX  negative: mirrored
 * @property {number} scaleY
 * @property {number} angle  in degrees, clockwise on the screen
 */

export const MIN_SCALE = 0.05;
export const MAX_SCALE = 20;

/**
 * @param {Readonly<Uint8Array>} plane
 * @param {Size} size
 * @param {Readonly<Uint8Array>} mask
 * @returns {Region | null} null for an empty mask
 */
export function cutOut(plane, size, mask) {
  const box = maskBox(mask, size);
  if (!box) return null;
  const width = box.right - box.left;
  const height = box.bottom - box.top;
  const ids = new Uint8Array(width * height);
  const inside = new Uint8Array(width * height);
  for (let row = 0; row < height; row += 1) {
    const start = (box.top + row) * size.width + box.left;
    ids.set(plane.subarray(start, start + width), row * width);
    inside.set(mask.subarray(start, start + width), row * width);
  }
  return { left: box.left, top: box.top, width, height, ids, mask: inside };
}

/**
 * Where a region was cut out.
 * @param {Region} region
 * @returns {Placement}
 */
export function homePlacement(region) {
  return { x: region.left + region.width / 2, y: region.top + region.height / 2, scaleX: 1, scaleY: 1, angle: 0 };
}

/**
 * A placement with scales that keep a region visible.
 * @param {Placement} placement
 * @returns {Placement}
 */
export function withinBounds(placement) {
  /** @type {(scale: number) => number} */
  const bound = (scale) => Math.sign(scale || 1) * Math.min(MAX_SCALE, Math.max(MIN_SCALE, Math.abs(scale)));
  return { ...placement, scaleX: bound(placement.scaleX), scaleY: bound(placement.scaleY) };
}

/**
 * The corners of a placed region's box, in order around it.
 * @param {Region} region
 * @param {Placement} placement
 * @returns {import("./raster.js").Point[]}
 */
export function placedCorners(region, placement) {
  const [cos, sin] = cosAndSin(placement.angle);
  return [
    [-1, -1],
    [1, -1],
    [1, 1],
    [-1, 1],
  ].map(([across, down]) => {
    const x = (across * region.width * placement.scaleX) / 2;
    const y = (down * region.height * placement.scaleY) / 2;
    return { x: placement.x + x * cos - y * sin, y: placement.y + x * sin + y * cos };
  });
}

/**
 * The pixels that a placed region covers, told one by one with the region's pixel that each shows.
 * @param {Size} size
 * @param {Region} region
 * @param {Placement} placement
 * @param {(index: number, source: number) => void} tell
 */
function eachPlacedPixel(size, region, placement, tell) {
  const corners = placedCorners(region, placement);
  const left = Math.max(0, Math.floor(Math.min(...corners.map((corner) => corner.x))));
  const right = Math.min(size.width, Math.ceil(Math.max(...corners.map((corner) => corner.x))));
  const top = Math.max(0, Math.floor(Math.min(...corners.map((corner) => corner.y))));
  const bottom = Math.min(size.height, Math.ceil(Math.max(...corners.map((corner) => corner.y))));
  const [cos, sin] = cosAndSin(placement.angle);
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      const dx = column + 0.5 - placement.x;
      const dy = row + 0.5 - placement.y;
      const x = Math.floor((dx * cos + dy * sin) / placement.scaleX + region.width / 2);
      const y = Math.floor((dy * cos - dx * sin) / placement.scaleY + region.height / 2);
      if (x < 0 || y < 0 || x >= region.width || y >= region.height) continue;
      const source = y * region.width + x;
      if (region.mask[source]) tell(row * size.width + column, source);
    }
  }
}

/**
 * A copy of a plane with a region put on it; locked classes are not covered.
 * @param {Readonly<Uint8Array>} base
 * @param {Size} size
 * @param {Region} region
 * @param {Placement} placement
 * @param {Readonly<Uint8Array>} locked
 * @returns {Uint8Array}
 */
export function place(base, size, region, placement, locked) {
  const placed = Uint8Array.from(base);
  eachPlacedPixel(size, region, placement, (index, source) => {
    if (!locked[base[index]]) placed[index] = region.ids[source];
  });
  return placed;
}

/**
 * The mask of a placed region.
 * @param {Size} size
 * @param {Region} region
 * @param {Placement} placement
 * @returns {Uint8Array}
 */
export function placedMask(size, region, placement) {
  const mask = new Uint8Array(size.width * size.height);
  eachPlacedPixel(size, region, placement, (index) => {
    mask[index] = 1;
  });
  return mask;
}

/**
 * @param {number} degrees
 * @returns {[number, number]} exact for quarter turns
 */
function cosAndSin(degrees) {
  const turns = (((degrees % 360) + 360) % 360) / 90;
  if (Number.isInteger(turns)) return /** @type {[number, number]} */ ([[1, 0], [0, 1], [-1, 0], [0, -1]][turns]);
  const radians = (degrees * Math.PI) / 180;
  return [Math.cos(radians), Math.sin(radians)];
}
