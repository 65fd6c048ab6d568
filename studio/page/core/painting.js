/**
 * A label map being painted: every tool's operation, each one step of undo. No canvas and no page in here.
 *
 * Every pixel has exactly one class at all times: erasing and deleting give pixels the classes around them.
 */

import { History } from "./history.js";
import {
  connectedArea,
  fillFromSurroundings,
  fillMask,
  joinBoxes,
  paintLine,
  pixelCentre,
  unlockedPart,
} from "./raster.js";
import { cutOut, homePlacement, place, placedMask, withinBounds } from "./region.js";

/** @typedef {import("./raster.js").Box} Box */
/** @typedef {import("./raster.js").Point} Point */
/** @typedef {import("./raster.js").Size} Size */
/** @typedef {import("./region.js").Region} Region */
/** @typedef {import("./region.js").Placement} Placement */

/** @typedef {{name: string, color: string, removed?: boolean}} ClassEntry  color: #RRGGBB */

/**
 * @typedef {object} Selection
 * @property {Region} region
 * @property {Placement} placement
 * @property {Readonly<Uint8Array> | null} base  the plane without the region; null until it is first moved
 */

/** @typedef {{selection: Selection | null, classes: readonly ClassEntry[]}} State  never changed, only replaced */

export const MAX_CLASSES = 64;

/** In the plane of strokes: no stroke here. */
export const NO_MARK = 255;

const IDS = 0;
const MARKS = 1;
const COPY_OFFSET = 12;

export class Painting {
  /**
   * @param {Size} size
   * @param {Uint8Array} ids
   * @param {readonly ClassEntry[]} classes
   * @param {Uint8Array | null} marks  strokes to fill from, `NO_MARK` elsewhere; null where there are none
   */
  constructor(size, ids, classes, marks = null) {
    this.size = size;
    this.planes = marks ? [ids, marks] : [ids];
    /** @type {State} */
    this.state = { selection: null, classes };
    this.locked = new Uint8Array(256);
    /** @type {History<State>} */
    this.history = new History(size);
    /** @type {(box: Box | null) => void} told what has to be drawn again; null means everything */
    this.onchange = () => {};
    /** @type {(travelled: boolean) => void} told when a step is complete, or was taken back or made again */
    this.onstep = () => {};
    /** @type {Uint8Array[] | null} */
    this._before = null;
    this._stateBefore = this.state;
    /** @type {Point | null} */
    this._last = null;
    /** @type {Uint8Array | null} pixels that the eraser has gone over */
    this.erased = null;
  }

  get ids() {
    return this.planes[IDS];
  }

  /** @returns {Uint8Array | null} */
  get marks() {
    return this.planes[MARKS] ?? null;
  }

  get selection() {
    return this.state.selection;
  }

  get classes() {
    return this.state.classes;
  }

  /** Whether a stroke has begun and not ended. */
  get busy() {
    return this._before !== null;
  }

  /**
   * The class of the pixel at a point, or null beside the canvas.
   * @param {Point} point
   * @returns {number | null}
   */
  classAt(point) {
    const column = Math.floor(point.x);
    const row = Math.floor(point.y);
    if (column < 0 || row < 0 || column >= this.size.width || row >= this.size.height) return null;
    return this.ids[row * this.size.width + column];
  }

  // Strokes: begun, extended, ended.

  /**
   * Begin a stroke of a class, and make its first dot.
   * @param {Point} point
   * @param {number} diameter
   * @param {number} value
   */
  beginStroke(point, diameter, value) {
    this._begin();
    this._last = pixelCentre(point);
    this._extend(IDS, this._last, diameter, value);
  }

  /**
   * Begin a stroke to fill from; `NO_MARK` wipes strokes away.
   * @param {Point} point
   * @param {number} diameter
   * @param {number} value
   */
  beginMark(point, diameter, value) {
    this._begin();
    this._last = pixelCentre(point);
    this._extend(MARKS, this._last, diameter, value);
  }

  /**
   * @param {Point} point
   * @param {number} diameter
   * @param {number} value
   */
  strokeTo(point, diameter, value) {
    this._extend(IDS, pixelCentre(point), diameter, value);
  }

  /**
   * @param {Point} point
   * @param {number} diameter
   * @param {number} value
   */
  markTo(point, diameter, value) {
    this._extend(MARKS, pixelCentre(point), diameter, value);
  }

  /**
   * Begin erasing; the pixels get their new classes when it ends.
   * @param {Point} point
   * @param {number} diameter
   */
  beginErasing(point, diameter) {
    this._begin();
    this.erased = new Uint8Array(this.ids.length);
    this._last = pixelCentre(point);
    this.eraseTo(point, diameter);
  }

  /**
   * @param {Point} point
   * @param {number} diameter
   */
  eraseTo(point, diameter) {
    if (!this.erased || !this._last) return;
    const to = pixelCentre(point);
    const box = paintLine(this.erased, this.size, this._last, to, diameter / 2, 1);
    this._last = to;
    this.onchange(box);
  }

  /**
   * Begin a stroke over whole regions.
   * @param {import("./superpixels.js").Superpixels} regions
   * @param {Point} point
   * @param {number} value
   */
  beginRegions(regions, point, value) {
    this._begin();
    this._last = point;
    this.regionsTo(regions, point, value);
  }

  /**
   * @param {import("./superpixels.js").Superpixels} regions
   * @param {Point} point
   * @param {number} value
   */
  regionsTo(regions, point, value) {
    if (!this._last) return;
    const box = regions.paint(this.ids, this._last, point, value, this.locked);
    this._last = point;
    this.onchange(box);
  }

  /** End the stroke that was begun. */
  endStroke() {
    if (this.erased) {
      const mask = unlockedPart(this.ids, this.erased, this.locked);
      this.erased = null;
      fillFromSurroundings(this.ids, this.size, mask);
      this.onchange(null);
    }
    this._last = null;
    this._commit({ ...this.state, selection: null });
  }

  /** Take back the stroke that was begun: a second finger came down, or Escape. */
  cancelStroke() {
    if (!this._before) return;
    this.planes.forEach((plane, place) => plane.set(/** @type {Uint8Array[]} */ (this._before)[place]));
    this._before = null;
    this._last = null;
    this.erased = null;
    this.onchange(null);
  }

  // Whole areas.

  /**
   * Give the connected area of one class around a point another class.
   * @param {Point} point
   * @param {number} value
   */
  floodFill(point, value) {
    this.fillArea(connectedArea(this.ids, this.size, Math.floor(point.x), Math.floor(point.y)), value);
  }

  /**
   * @param {Uint8Array} mask
   * @param {number} value
   */
  fillArea(mask, value) {
    this._edit(() => fillMask(this.ids, mask, value, this.locked));
  }

  /**
   * Replace the whole map, but for pixels of locked classes.
   * @param {Uint8Array} ids
   */
  replaceAll(ids) {
    this._edit(() => {
      for (let index = 0; index < ids.length; index += 1) {
        if (!this.locked[this.ids[index]]) this.ids[index] = ids[index];
      }
    });
  }

  /** Wipe all strokes away. */
  clearMarks() {
    this._edit(() => this.marks?.fill(NO_MARK));
  }

  // The selection.

  /**
   * Select the connected area of one class around a point.
   * @param {Point} point
   */
  selectConnected(point) {
    this.selectArea(connectedArea(this.ids, this.size, Math.floor(point.x), Math.floor(point.y)));
  }

  /**
   * Select a mask's pixels, those of locked classes left out; an empty mask selects nothing.
   * @param {Uint8Array} mask
   */
  selectArea(mask) {
    const region = cutOut(this.ids, this.size, unlockedPart(this.ids, mask, this.locked));
    const selection = region && { region, placement: homePlacement(region), base: null };
    if (!selection && !this.selection) return;
    this._begin();
    this._commit({ ...this.state, selection });
  }

  deselect() {
    if (!this.selection) return;
    this._begin();
    this._commit({ ...this.state, selection: null });
  }

  /**
   * Show the selection elsewhere; one step of undo once `endMove` is called.
   * @param {Partial<Placement>} change
   */
  moveTo(change) {
    const selection = this.selection;
    if (!selection) return;
    if (!this._before) this._begin();
    const placement = withinBounds({ ...selection.placement, ...change });
    const base = selection.base ?? this._without(selection);
    this.ids.set(place(base, this.size, selection.region, placement, this.locked));
    this.state = { ...this.state, selection: { ...selection, base, placement } };
    this.onchange(null);
  }

  /**
   * End what `moveTo` began.
   * @param {string} key  as for `History.record`
   */
  endMove(key = "") {
    if (this._before) this._commit(this.state, key);
  }

  /**
   * Move the selection and be done: one step of undo.
   * @param {Partial<Placement>} change
   * @param {string} key
   */
  move(change, key = "") {
    this.moveTo(change);
    this.endMove(key);
  }

  /**
   * Mirror the selection in its place.
   * @param {"across" | "down"} direction
   */
  flip(direction) {
    const placement = this.selection?.placement;
    if (!placement) return;
    const { scaleX, scaleY, angle } = placement;
    // Mirrored on the screen, a turned region turns the other way.
    this.move(direction === "across" ? { scaleX: -scaleX, angle: -angle } : { scaleY: -scaleY, angle: -angle });
  }

  /** Put a copy of the selection beside it; the copy is then the selection. */
  duplicate() {
    const selection = this.selection;
    if (!selection) return;
    this._begin();
    const { x, y } = selection.placement;
    const placement = { ...selection.placement, x: x + COPY_OFFSET, y: y + COPY_OFFSET };
    const base = Uint8Array.from(this.ids);
    this.ids.set(place(base, this.size, selection.region, placement, this.locked));
    this.onchange(null);
    this._commit({ ...this.state, selection: { region: selection.region, placement, base } });
  }

  /** Delete the selection; its surroundings close over it. */
  removeSelection() {
    const selection = this.selection;
    if (!selection) return;
    this._begin();
    this.ids.set(selection.base ?? this._without(selection));
    this.onchange(null);
    this._commit({ ...this.state, selection: null });
  }

  /**
   * Give all of the selection a class.
   * @param {number} value
   */
  fillSelection(value) {
    if (this.selection) this.fillArea(placedMask(this.size, this.selection.region, this.selection.placement), value);
  }

  // Classes.

  /**
   * Replace the list of classes; a class's number is its place in it.
   * @param {readonly ClassEntry[]} classes
   */
  setClasses(classes) {
    this._begin();
    this._commit({ ...this.state, classes });
  }

  /**
   * Remove a class: its pixels get the classes around them. The last class stays.
   * @param {number} value
   */
  removeClass(value) {
    const left = this.classes.findIndex((entry, place) => !entry.removed && place !== value);
    if (left < 0) return;
    this._begin();
    const mask = this.ids.map((id) => (id === value ? 1 : 0));
    if (mask.includes(0)) fillFromSurroundings(this.ids, this.size, mask);
    else this.ids.fill(left);
    if (this.marks) fillMask(this.marks, this.marks.map((mark) => (mark === value ? 1 : 0)), NO_MARK);
    this.onchange(null);
    const classes = this.classes.map((entry, place) => (place === value ? { ...entry, removed: true } : entry));
    this._commit({ selection: null, classes });
  }

  // Undo.

  /** @returns {boolean} whether there was anything to take back */
  undo() {
    return this._travel(this.history.undo(this.planes), "before");
  }

  /** @returns {boolean} */
  redo() {
    return this._travel(this.history.redo(this.planes), "after");
  }

  /**
   * @param {import("./history.js").Step<State> | null} step
   * @param {"before" | "after"} which
   */
  _travel(step, which) {
    if (!step) return false;
    this.state = step[which];
    this.onchange(null);
    this.onstep(true);
    return true;
  }

  /**
   * @param {number} plane
   * @param {Point} to
   * @param {number} diameter
   * @param {number} value
   */
  _extend(plane, to, diameter, value) {
    if (!this._last) return;
    const locked = plane === IDS ? this.locked : undefined;
    const box = paintLine(this.planes[plane], this.size, this._last, to, diameter / 2, value, locked);
    this._last = to;
    this.onchange(joinBoxes(box, null));
  }

  /**
   * The map with a selection's pixels closed over.
   * @param {Selection} selection
   */
  _without(selection) {
    const base = Uint8Array.from(this.ids);
    const mask = placedMask(this.size, selection.region, selection.placement);
    fillFromSurroundings(base, this.size, unlockedPart(base, mask, this.locked));
    return base;
  }

  /** @param {() => void} change */
  _edit(change) {
    this._begin();
    change();
    this.onchange(null);
    this._commit({ ...this.state, selection: null });
  }

  _begin() {
    if (this._before) this.endStroke();
    this._before = this.planes.map((plane) => Uint8Array.from(plane));
    this._stateBefore = this.state;
  }

  /**
   * @param {State} state
   * @param {string} key
   */
  _commit(state, key = "") {
    const before = /** @type {Uint8Array[]} */ (this._before);
    const stateBefore = this._stateBefore;
    const same = state.selection === stateBefore.selection && state.classes === stateBefore.classes;
    this.state = same ? stateBefore : state;
    this._before = null;
    this.history.record(before, this.planes, stateBefore, this.state, key, Date.now());
    this.onstep(false);
  }
}
