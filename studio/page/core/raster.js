/**
 * Raster operations on planes of class ids: pure functions, hard edges, no canvas.
 *
 * A plane is a `Uint8Array` of width * height values, row by row. A mask is a plane of 0 and 1.
 */

/** @typedef {{x: number, y: number}} Point  in pixels; the centre of the first pixel is (0.5, 0.5) */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Box  right and bottom are exclusive */
/** @typedef {{width: number, height: number}} Size */

/** @type {Readonly<Uint8Array>} */
export const NOTHING_LOCKED = new Uint8Array(256);

/**
 * The part of a box that lies on the canvas, or null where none does.
 * @param {Box} box
 * @param {Size} size
 * @returns {Box | null}
 */
export function clipBox(box, size) {
  const clipped = {
    left: Math.max(0, Math.floor(box.left)),
    top: Math.max(0, Math.floor(box.top)),
    right: Math.min(size.width, Math.ceil(box.right)),
    bottom: Math.min(size.height, Math.ceil(box.bottom)),
  };
  return clipped.left < clipped.right && clipped.top < clipped.bottom ? clipped : null;
}

/**
 * The smallest box around two, either of which may be null.
 * @param {Box | null} first
 * @param {Box | null} second
 * @returns {Box | null}
 */
export function joinBoxes(first, second) {
  if (!first || !second) return first ?? second;
  return {
    left: Math.min(first.left, second.left),
    top: Math.min(first.top, second.top),
    right: Math.max(first.right, second.right),
    bottom: Math.max(first.bottom, second.bottom),
  };
}

/**
 * Set all pixels whose centres are within a radius of a line between two points, but for locked classes.
 * @param {Uint8Array} plane
 * @param {Size} size
 * @param {Point} from
 * @param {Point} to
 * @param {number} radius
 * @param {number} value
 * @param {Readonly<Uint8Array>} locked  1 for each value that must not be painted over
 * @returns {Box | null} what was reached
 */
export function paintLine(plane, size, from, to, radius, value, locked = NOTHING_LOCKED) {
  const box = clipBox(
    {
      left: Math.min(from.x, to.x) - radius,
      top: Math.min(from.y, to.y) - radius,
      right: Math.max(from.x, to.x) + radius,
      bottom: Math.max(from.y, to.y) + radius,
    },
    size,
  );
  if (!box) return null;
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const squaredLength = dx * dx + dy * dy;
  const squaredRadius = radius * radius;
  for (let row = box.top; row < box.bottom; row += 1) {
    for (let column = box.left; column < box.right; column += 1) {
      const px = column + 0.5 - from.x;
      const py = row + 0.5 - from.y;
      const along = squaredLength ? Math.min(1, Math.max(0, (px * dx + py * dy) / squaredLength)) : 0;
      const offX = px - along * dx;
      const offY = py - along * dy;
      const index = row * size.width + column;
      if (offX * offX + offY * offY <= squaredRadius && !locked[plane[index]]) plane[index] = value;
    }
  }
  return box;
}

/**
 * The centre of the pixel that a point lies in: a brush of one pixel then always finds it.
 * @param {Point} point
 * @returns {Point}
 */
export function pixelCentre(point) {
  return { x: Math.floor(point.x) + 0.5, y: Math.floor(point.y) + 0.5 };
}

/**
 * The connected area of one value around a pixel; pixels touch along their sides.
 * @param {Readonly<Uint8Array>} plane
 * @param {Size} size
 * @param {number} column
 * @param {number} row
 * @returns {Uint8Array} a mask; empty if the pixel is not on the canvas
 */
export function connectedArea(plane, size, column, row) {
  const { width, height } = size;
  const mask = new Uint8Array(width * height);
  if (column < 0 || row < 0 || column >= width || row >= height) return mask;
  const value = plane[row * width + column];
  const waiting = [row * width + column];
  while (waiting.length) {
    const start = /** @type {number} */ (waiting.pop());
    if (mask[start]) continue;
    const rowStart = start - (start % width);
    let left = start;
    while (left > rowStart && plane[left - 1] === value && !mask[left - 1]) left -= 1;
    let right = start;
    while (right < rowStart + width - 1 && plane[right + 1] === value && !mask[right + 1]) right += 1;
    mask.fill(1, left, right + 1);
    for (const shift of [-width, width]) {
      if (rowStart + shift < 0 || rowStart + shift >= mask.length) continue;
      let inside = false;
      for (let index = left + shift; index <= right + shift; index += 1) {
        const open = plane[index] === value && !mask[index];
        if (open && !inside) waiting.push(index);
        inside = open;
      }
    }
  }
  return mask;
}

/**
 * The pixels whose centres are inside a closed polygon, by the even-odd rule.
 * @param {readonly Point[]} corners
 * @param {Size} size
 * @returns {Uint8Array} a mask
 */
export function polygonArea(corners, size) {
  const { width, height } = size;
  const mask = new Uint8Array(width * height);
  for (let row = 0; row < height; row += 1) {
    const y = row + 0.5;
    /** @type {number[]} */
    const crossings = [];
    corners.forEach((corner, place) => {
      const next = corners[(place + 1) % corners.length];
      if (corner.y <= y === next.y <= y) return;
      crossings.push(corner.x + ((y - corner.y) / (next.y - corner.y)) * (next.x - corner.x));
    });
    crossings.sort((a, b) => a - b);
    for (let place = 0; place + 1 < crossings.length; place += 2) {
      const left = Math.max(0, Math.ceil(crossings[place] - 0.5));
      const right = Math.min(width, Math.ceil(crossings[place + 1] - 0.5));
      if (left < right) mask.fill(1, row * width + left, row * width + right);
    }
  }
  return mask;
}

/**
 * The smallest box around what is found in rows, or null where nothing is.
 * @param {Size} size
 * @param {(start: number) => [number, number] | null} find  in the row that begins at an index: first column and the one after the last
 * @returns {Box | null}
 */
export function boundingBox({ width, height }, find) {
  let left = width;
  let right = 0;
  let top = height;
  let bottom = 0;
  for (let row = 0; row < height; row += 1) {
    const found = find(row * width);
    if (!found) continue;
    left = Math.min(left, found[0]);
    right = Math.max(right, found[1]);
    top = Math.min(top, row);
    bottom = row + 1;
  }
  return bottom ? { left, top, right, bottom } : null;
}

/**
 * The box around a mask's pixels, or null where it has none.
 * @param {Readonly<Uint8Array>} mask
 * @param {Size} size
 * @returns {Box | null}
 */
export function maskBox(mask, size) {
  return boundingBox(size, (start) => {
    const row = mask.subarray(start, start + size.width);
    const first = row.indexOf(1);
    return first < 0 ? null : [first, row.lastIndexOf(1) + 1];
  });
}

/**
 * Set a mask's pixels to a value, but for locked classes.
 * @param {Uint8Array} plane
 * @param {Readonly<Uint8Array>} mask
 * @param {number} value
 * @param {Readonly<Uint8Array>} locked
 */
export function fillMask(plane, mask, value, locked = NOTHING_LOCKED) {
  for (let index = 0; index < plane.length; index += 1) {
    if (mask[index] && !locked[plane[index]]) plane[index] = value;
  }
}

/**
 * A mask without the pixels of locked classes.
 * @param {Readonly<Uint8Array>} plane
 * @param {Readonly<Uint8Array>} mask
 * @param {Readonly<Uint8Array>} locked
 * @returns {Uint8Array}
 */
export function unlockedPart(plane, mask, locked) {
  return mask.map((set, index) => (set && !locked[plane[index]] ? 1 : 0));
}

/**
 * Give a mask's pixels the values of the nearest pixels outside it, ring by ring; a mask of everything changes nothing.
 * Rings go to four and to eight neighbours in turn, so that they are octagons, nearly circles.
 * @param {Uint8Array} plane
 * @param {Size} size
 * @param {Readonly<Uint8Array>} mask
 */
export function fillFromSurroundings(plane, size, mask) {
  const { width, height } = size;
  const open = Uint8Array.from(mask);
  /** @type {number[]} */
  let ring = [];
  for (let index = 0; index < open.length; index += 1) {
    if (!open[index] && touches(open, size, index)) ring.push(index);
  }
  for (let count = 0; ring.length; count += 1) {
    /** @type {number[]} */
    const next = [];
    /** @type {number[]} */
    const again = [];
    for (const index of ring) {
      const column = index % width;
      const row = (index - column) / width;
      let missed = false;
      for (let down = -1; down <= 1; down += 1) {
        for (let across = -1; across <= 1; across += 1) {
          const x = column + across;
          const y = row + down;
          if (x < 0 || y < 0 || x >= width || y >= height) continue;
          const beside = y * width + x;
          if (!open[beside]) continue;
          if (down && across && count % 2 === 0) {
            missed = true; // a diagonal neighbour is reached by the next ring
            continue;
          }
          open[beside] = 0;
          plane[beside] = plane[index];
          next.push(beside);
        }
      }
      if (missed) again.push(index);
    }
    ring = again.length ? [...again, ...next] : next;
  }
}

/**
 * Whether a pixel has a mask's pixel among its eight neighbours.
 * @param {Readonly<Uint8Array>} mask
 * @param {Size} size
 * @param {number} index
 * @returns {boolean}
 */
function touches(mask, size, index) {
  const column = index % size.width;
  const row = (index - column) / size.width;
  for (let y = Math.max(0, row - 1); y <= Math.min(size.height - 1, row + 1); y += 1) {
    for (let x = Math.max(0, column - 1); x <= Math.min(size.width - 1, column + 1); x += 1) {
      if (mask[y * size.width + x]) return true;
    }
  }
  return false;
}

/**
 * The borders between different values as straight lines along the pixels' sides: [x0, y0, x1, y1, ...].
 * @param {Readonly<Uint8Array>} plane
 * @param {Size} size
 * @param {boolean} frame  whether pixels with a value other than 0 also have a border at the canvas's own edge
 * @returns {number[]}
 */
export function borderLines(plane, size, frame = false) {
  const { width, height } = size;
  /** @type {number[]} */
  const lines = [];
  /** @type {(x: number, y: number) => number} */
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : plane[y * width + x]);
  const margin = frame ? 0 : 1;
  for (let y = margin; y <= height - margin; y += 1) {
    let start = -1;
    for (let x = 0; x <= width; x += 1) {
      const border = x < width && at(x, y - 1) !== at(x, y);
      if (border && start < 0) start = x;
      if (!border && start >= 0) {
        lines.push(start, y, x, y);
        start = -1;
      }
    }
  }
  for (let x = margin; x <= width - margin; x += 1) {
    let start = -1;
    for (let y = 0; y <= height; y += 1) {
      const border = y < height && at(x - 1, y) !== at(x, y);
      if (border && start < 0) start = y;
      if (!border && start >= 0) {
        lines.push(x, start, x, y);
        start = -1;
      }
    }
  }
  return lines;
}
