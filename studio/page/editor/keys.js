/** What the keys do in a workspace. */

import { ZOOM_STEP } from "./camera.js";

/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("./editor.js").Editor} Editor */

/**
 * A key that was pressed anywhere on the page but in a field.
 * @param {Editor} editor
 * @param {KeyboardEvent} event
 * @returns {boolean} whether it meant something
 */
export function press(editor, event) {
  editor.shiftHeld = event.shiftKey;
  const onCanvas = event.target instanceof HTMLCanvasElement;
  if (event.ctrlKey || event.metaKey) return controlKey(editor, event);
  if (onCanvas && event.key.startsWith("Arrow")) return arrow(editor, event);
  if (onCanvas && event.key === "Enter") return enter(editor);
  if (event.key === " " && onCanvas) {
    editor.spaceHeld = true;
    return true;
  }
  if (event.shiftKey && /^[hv]$/i.test(event.key)) {
    editor.painting.flip(event.key.toLowerCase() === "h" ? "across" : "down");
    return true;
  }
  const simple = simpleKeys(editor)[event.key];
  if (simple) {
    simple();
    return true;
  }
  if (/^[1-9]$/.test(event.key)) {
    const visible = editor.painting.classes.flatMap((entry, place) => (entry.removed ? [] : [place]));
    if (visible[Number(event.key) - 1] !== undefined) editor.choose(visible[Number(event.key) - 1]);
    return true;
  }
  const tool = editor.tools.find(({ key }) => key === event.key.toLowerCase());
  if (tool && !event.altKey) editor.use(tool);
  return tool !== undefined;
}

/**
 * @param {Editor} editor
 * @returns {Record<string, () => void>}
 */
function simpleKeys(editor) {
  const turn = (/** @type {number} */ degrees) => {
    const angle = editor.painting.selection?.placement.angle ?? 0;
    editor.painting.move({ angle: angle + degrees }, "turn");
  };
  return {
    Escape: () => editor.letGo(),
    Delete: () => editor.painting.removeSelection(),
    Backspace: () => editor.painting.removeSelection(),
    "[": () => editor.setBrushSize(editor.brushSize / 1.25 - 0.5),
    "]": () => editor.setBrushSize(editor.brushSize * 1.25 + 0.5),
    "+": () => editor.camera.zoomAtCentre(ZOOM_STEP),
    "=": () => editor.camera.zoomAtCentre(ZOOM_STEP),
    "-": () => editor.camera.zoomAtCentre(1 / ZOOM_STEP),
    0: () => editor.camera.fit(),
    "<": () => turn(-5),
    ">": () => turn(5),
  };
}

/** @param {Editor} editor @param {KeyboardEvent} event */
function controlKey(editor, event) {
  const key = event.key.toLowerCase();
  if (key === "z" && !event.shiftKey) editor.undo();
  else if (key === "y" || key === "z") editor.redo();
  else if (key === "d") editor.painting.duplicate();
  else return false;
  return true;
}

/** @param {Editor} editor @param {KeyboardEvent} event */
function arrow(editor, event) {
  const by = event.shiftKey ? 10 : 1;
  const dx = { ArrowLeft: -by, ArrowRight: by }[event.key] ?? 0;
  const dy = { ArrowUp: -by, ArrowDown: by }[event.key] ?? 0;
  const placement = editor.painting.selection?.placement;
  if (placement && event.altKey) {
    const [width, height] = [1 + dx * 0.02, 1 - dy * 0.02];
    editor.painting.move({ scaleX: placement.scaleX * width, scaleY: placement.scaleY * height }, "scale");
  } else if (placement) {
    editor.painting.move({ x: placement.x + dx, y: placement.y + dy }, "nudge");
  } else {
    const from = editor.cursor ?? { x: editor.painting.size.width / 2, y: editor.painting.size.height / 2 };
    moveCursor(editor, { x: from.x + dx, y: from.y + dy });
  }
  return true;
}

/** @param {Editor} editor @param {Point} to */
function moveCursor(editor, to) {
  const { width, height } = editor.painting.size;
  const x = Math.max(0.5, Math.min(width - 0.5, Math.floor(to.x) + 0.5));
  const y = Math.max(0.5, Math.min(height - 0.5, Math.floor(to.y) + 0.5));
  const before = editor.cursor && editor.painting.classAt(editor.cursor);
  editor.cursor = { x, y };
  editor.camera.reveal(editor.cursor);
  const now = editor.painting.classAt(editor.cursor);
  if (now !== null && now !== before) editor.announce(editor.painting.classes[now].name);
  editor.showPlace(editor.cursor);
  editor.invalidate();
}

/** @param {Editor} editor */
function enter(editor) {
  if (!editor.cursor) {
    moveCursor(editor, { x: editor.painting.size.width / 2, y: editor.painting.size.height / 2 });
    return true;
  }
  const { tool } = editor;
  (tool.corner ?? tool.down)(editor, editor.cursor);
  if (editor.painting.busy) tool.up?.(editor);
  editor.grip = null;
  return true;
}
