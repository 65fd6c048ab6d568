/** What a selection is held by: its inside moves it, corners and sides scale it, the handle above turns it. */

/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("../core/region.js").Placement} Placement */
/** @typedef {import("../core/region.js").Region} Region */
/** @typedef {{region: Region, placement: Placement}} Placed */
/** @typedef {{kind: "move" | "scale" | "turn", region: Region, placement: Placement, from: Point, sides: Point}} Grip */

/** Pixels of the view. */
const REACH = 10;
export const HANDLE_DISTANCE = 24;

const SIDES = [-1, 0, 1].flatMap((y) => [-1, 0, 1].map((x) => ({ x, y }))).filter(({ x, y }) => x || y);

/**
 * A point from the placement's own axes, whose origin is its centre, to the canvas's.
 * @param {Placement} placement
 * @param {Point} point
 * @returns {Point}
 */
function outward(placement, point) {
  const radians = (placement.angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(radians), Math.sin(radians)];
  return { x: placement.x + point.x * cos - point.y * sin, y: placement.y + point.x * sin + point.y * cos };
}

/**
 * The inverse of `outward`.
 * @param {Placement} placement
 * @param {Point} point
 * @returns {Point}
 */
function inward(placement, point) {
  const radians = (placement.angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(radians), Math.sin(radians)];
  const [dx, dy] = [point.x - placement.x, point.y - placement.y];
  return { x: dx * cos + dy * sin, y: dy * cos - dx * sin };
}

/**
 * Half of the placed box's width and height.
 * @param {Placed} placed
 * @returns {Point}
 */
function reach({ region, placement }) {
  return {
    x: (region.width * Math.abs(placement.scaleX)) / 2,
    y: (region.height * Math.abs(placement.scaleY)) / 2,
  };
}

/**
 * Where the handles are, on the canvas.
 * @param {Placed} placed
 * @param {number} scale  pixels of the view to one of the canvas
 * @returns {{sides: {at: Point, sides: Point}[], turn: Point}}
 */
export function handles(placed, scale) {
  const half = reach(placed);
  return {
    sides: SIDES.map((sides) => ({
      sides,
      at: outward(placed.placement, { x: sides.x * half.x, y: sides.y * half.y }),
    })),
    turn: outward(placed.placement, { x: 0, y: -half.y - HANDLE_DISTANCE / scale }),
  };
}

/**
 * What of a selection is under a point, or null.
 * @param {Placed} placed
 * @param {Point} point
 * @param {number} scale
 * @returns {Grip | null}
 */
export function gripAt(placed, point, scale) {
  const { region, placement } = placed;
  /** @type {(at: Point) => boolean} */
  const near = (at) => Math.hypot(at.x - point.x, at.y - point.y) * scale <= REACH;
  const { sides, turn } = handles(placed, scale);
  const none = { x: 0, y: 0 };
  if (near(turn)) return { kind: "turn", region, placement, from: point, sides: none };
  const side = sides.find(({ at }) => near(at));
  if (side) return { kind: "scale", region, placement, from: point, sides: side.sides };
  const inside = inward(placement, point);
  const half = reach(placed);
  if (Math.abs(inside.x) > half.x || Math.abs(inside.y) > half.y) return null;
  return { kind: "move", region, placement, from: point, sides: none };
}

/**
 * The placement when a grip has been dragged to a point.
 * @param {Grip} grip
 * @param {Point} to
 * @param {number} step  of turning, in degrees
 * @returns {Partial<Placement>}
 */
export function moveGrip(grip, to, step) {
  const { placement } = grip;
  if (grip.kind === "move") {
    return {
      x: placement.x + Math.round(to.x - grip.from.x),
      y: placement.y + Math.round(to.y - grip.from.y),
    };
  }
  if (grip.kind === "turn") {
    const degrees = (Math.atan2(to.y - placement.y, to.x - placement.x) * 180) / Math.PI + 90;
    return { angle: Math.round(degrees / step) * step };
  }
  return scaled(grip, to);
}

/**
 * Scale about the opposite side or corner; corners keep the proportions.
 * @param {Grip} grip
 * @param {Point} to
 * @returns {Partial<Placement>}
 */
function scaled({ region, placement, sides }, to) {
  const half = reach({ region, placement });
  const point = inward(placement, to);
  let across = sides.x ? (sides.x * point.x + half.x) / (2 * half.x) : 1;
  let down = sides.y ? (sides.y * point.y + half.y) / (2 * half.y) : 1;
  if (sides.x && sides.y) {
    const factor = Math.max(Math.abs(across), Math.abs(down), 0.01);
    across = factor * Math.sign(across || 1);
    down = factor * Math.sign(down || 1);
  }
  const centre = outward(placement, {
    x: sides.x * half.x * (across - 1),
    y: sides.y * half.y * (down - 1),
  });
  return { x: centre.x, y: centre.y, scaleX: placement.scaleX * across, scaleY: placement.scaleY * down };
}
