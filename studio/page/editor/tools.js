/** The tools: what pressing, moving and letting go on the canvas does. Each works with the keyboard's cursor, too. */

import { polygonArea } from "../core/raster.js";
import { NO_MARK } from "../core/painting.js";
import { gripAt, moveGrip } from "./grips.js";

/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("./editor.js").Editor} Editor */

/**
 * @typedef {object} Tool
 * @property {string} id  also its icon's name
 * @property {string} label
 * @property {string} key
 * @property {string} hint
 * @property {boolean} [sized]  whether it has a size
 * @property {(editor: Editor, point: Point) => void} down
 * @property {(editor: Editor, point: Point) => void} [move]
 * @property {(editor: Editor) => void} [up]
 * @property {(editor: Editor, point: Point) => void} [corner]  what Enter does at the cursor, where it is not `down`
 */

/** Pixels of the view within which a polygon's first corner is met again. */
const CLOSE_ENOUGH = 9;

/** Degrees to which turning snaps while Shift is held. */
export const TURN_STEP = 15;

/** @type {Tool} */
export const brush = {
  id: "brush",
  label: "Brush",
  key: "b",
  hint: "Paint the chosen class",
  sized: true,
  down: (editor, point) => editor.painting.beginStroke(point, editor.brushSize, editor.value),
  move: (editor, point) => editor.painting.strokeTo(point, editor.brushSize, editor.value),
  up: (editor) => editor.painting.endStroke(),
};

/** @type {Tool} */
export const eraser = {
  id: "eraser",
  label: "Eraser",
  key: "e",
  hint: "Wipe something away: what is around it closes over it",
  sized: true,
  down: (editor, point) => editor.painting.beginErasing(point, editor.brushSize),
  move: (editor, point) => editor.painting.eraseTo(point, editor.brushSize),
  up: (editor) => editor.painting.endStroke(),
};

/** @type {Tool} */
export const fill = {
  id: "fill",
  label: "Fill",
  key: "f",
  hint: "Give a connected area the chosen class",
  down: (editor, point) => editor.painting.floodFill(point, editor.value),
};

/** @type {Tool} */
export const polygon = {
  id: "polygon",
  label: "Polygon",
  key: "p",
  hint: "Click corner after corner; click the first one, or double-click, to fill",
  down: (editor, point) => addCorner(editor, point, (mask) => editor.painting.fillArea(mask, editor.value)),
};

/** @type {Tool} */
export const lasso = {
  id: "lasso",
  label: "Lasso",
  key: "l",
  hint: "Draw round an area to give it the chosen class",
  down: (editor, point) => editor.setOutline([point]),
  move: (editor, point) => editor.setOutline([...(editor.outline ?? []), point]),
  up: (editor) => closeOutline(editor, (mask) => editor.painting.fillArea(mask, editor.value)),
  corner: (editor, point) => addCorner(editor, point, (mask) => editor.painting.fillArea(mask, editor.value)),
};

/** @type {Tool} */
export const picker = {
  id: "picker",
  label: "Pick a class",
  key: "i",
  hint: "Click an area to choose its class",
  down: (editor, point) => {
    const value = editor.painting.classAt(point);
    if (value !== null) editor.choose(value);
  },
};

/** @type {Tool} */
export const select = {
  id: "select",
  label: "Select",
  key: "v",
  hint: "Click a region, then drag it, its corners or its handle",
  down: (editor, point) => {
    if (!takeGrip(editor, point)) editor.painting.selectConnected(point);
  },
  move: dragGrip,
  up: letGo,
};

/** @type {Tool} */
export const selectLasso = {
  id: "select-lasso",
  label: "Select with a lasso",
  key: "s",
  hint: "Draw round a region, then drag it, its corners or its handle",
  down: (editor, point) => {
    if (!takeGrip(editor, point)) editor.setOutline([point]);
  },
  move: (editor, point) => {
    if (editor.grip) dragGrip(editor, point);
    else editor.setOutline([...(editor.outline ?? []), point]);
  },
  up: (editor) => {
    if (editor.grip) letGo(editor);
    else closeOutline(editor, (mask) => editor.painting.selectArea(mask));
  },
  corner: (editor, point) => addCorner(editor, point, (mask) => editor.painting.selectArea(mask)),
};

/** @type {Tool} */
export const stroke = {
  id: "stroke",
  label: "Stroke to fill from",
  key: "m",
  hint: "Draw a stroke on each class, then fill from the strokes",
  sized: true,
  down: (editor, point) => editor.painting.beginMark(point, editor.brushSize, editor.value),
  move: (editor, point) => editor.painting.markTo(point, editor.brushSize, editor.value),
  up: (editor) => editor.painting.endStroke(),
};

/** @type {Tool} */
export const wipe = {
  id: "wipe",
  label: "Wipe strokes",
  key: "w",
  hint: "Wipe strokes away; classes stay as they are",
  sized: true,
  down: (editor, point) => editor.painting.beginMark(point, editor.brushSize, NO_MARK),
  move: (editor, point) => editor.painting.markTo(point, editor.brushSize, NO_MARK),
  up: (editor) => editor.painting.endStroke(),
};

/** @type {Tool} */
export const regions = {
  id: "regions",
  label: "Whole regions",
  key: "r",
  hint: "Draw over regions of similar color to give all of each the chosen class",
  down: (editor, point) => {
    if (editor.regions) editor.painting.beginRegions(editor.regions, point, editor.value);
  },
  move: (editor, point) => {
    if (editor.regions) editor.painting.regionsTo(editor.regions, point, editor.value);
  },
  up: (editor) => {
    if (editor.painting.busy) editor.painting.endStroke();
  },
};

/** @type {Tool} */
export const object = {
  id: "object",
  label: "Click an object",
  key: "c",
  hint: "Click on an object to give all of it the chosen class; Shift+click takes a part away again",
  down: (editor, point) => editor.onclick(point, !editor.shiftHeld),
};

/**
 * @param {Editor} editor
 * @param {Point} first
 * @param {Point} second
 * @param {number} distance  in pixels of the view
 */
function nearEnough(editor, first, second, distance = CLOSE_ENOUGH) {
  return Math.hypot(first.x - second.x, first.y - second.y) * editor.camera.scale <= distance;
}

/**
 * Add a corner to an outline; at the first corner, or twice at one place, the outline is closed and used.
 * @param {Editor} editor
 * @param {Point} point
 * @param {(mask: Uint8Array) => void} use
 */
function addCorner(editor, point, use) {
  const outline = editor.outline ?? [];
  const last = outline.at(-1);
  const again = last !== undefined && nearEnough(editor, last, point, 1);
  if (outline.length >= 3 && (again || nearEnough(editor, outline[0], point))) closeOutline(editor, use);
  else if (!again) editor.setOutline([...outline, point]);
}

/**
 * @param {Editor} editor
 * @param {(mask: Uint8Array) => void} use
 */
export function closeOutline(editor, use) {
  const outline = editor.outline ?? [];
  editor.setOutline(null);
  if (outline.length >= 3) use(polygonArea(outline, editor.painting.size));
}

/**
 * @param {Editor} editor
 * @param {Point} point
 */
function takeGrip(editor, point) {
  editor.grip = editor.painting.selection ? gripAt(editor.painting.selection, point, editor.camera.scale) : null;
  return editor.grip !== null;
}

/**
 * @param {Editor} editor
 * @param {Point} point
 */
function dragGrip(editor, point) {
  if (editor.grip) editor.painting.moveTo(moveGrip(editor.grip, point, editor.shiftHeld ? TURN_STEP : 1));
}

/** @param {Editor} editor */
function letGo(editor) {
  editor.grip = null;
  editor.painting.endMove();
}
