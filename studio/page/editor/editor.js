/** A painting on the page: its views, tools, pointer and keyboard. Rooms add what is around it. */

import { button, element, need } from "../dom.js";
import { preference, remember } from "../drafts.js";
import { borderLines, joinBoxes } from "../core/raster.js";
import { placedMask } from "../core/region.js";
import { Camera } from "./camera.js";
import { ClassList } from "./classes.js";
import { handles } from "./grips.js";
import { SelectionPanel } from "./selection.js";
import { closeOutline } from "./tools.js";
import { PlaneImage, View, pathOf } from "./view.js";

/** @typedef {import("../core/raster.js").Box} Box */
/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("../core/painting.js").Painting} Painting */
/** @typedef {import("./tools.js").Tool} Tool */

const MAX_BRUSH = 160;
const ZOOM_STEP = 1.25;

export class Editor {
  /**
   * @param {HTMLElement} root  a workspace
   * @param {readonly Tool[]} tools
   * @param {Painting} painting
   * @param {boolean} editable  whether classes can be added, renamed and removed
   */
  constructor(root, tools, painting, editable) {
    this.root = root;
    this.tools = tools;
    this.tool = tools[0];
    this.painting = painting;
    this.camera = new Camera();
    this.value = 0;
    this.brushSize = preference("brushSize", 16);
    /** @type {import("../core/superpixels.js").Superpixels | null} */
    this.regions = null;
    /** @type {Point[] | null} corners of a polygon or lasso being drawn */
    this.outline = null;
    /** @type {import("./grips.js").Grip | null} */
    this.grip = null;
    this.shiftHeld = false;
    /** @type {Point | null} where the pointer is */
    this.hover = null;
    /** @type {Point | null} where the keyboard's cursor is; null while the pointer is used */
    this.cursor = null;
    /** Told after every frame in which pixels changed. */
    this.onpixels = () => {};
    /** @type {(travelled: boolean) => void} told when a step is complete, or was taken back or made again */
    this.onstep = () => {};

    /** @type {(point: Point, inside: boolean) => void} told of clicks on objects */
    this.onclick = () => {};

    const canvases = [...root.querySelectorAll("canvas")];
    this.views = canvases.map((canvas) => new View(canvas, this.camera));
    this.image = new PlaneImage(painting.size);
    /** @type {PlaneImage | null} */
    this.marksImage = null;
    /** @type {Box | null} */
    this._dirty = null;
    /** @type {import("../core/painting.js").Selection | null} whose outline `_selectedPath` is */
    this._selected = null;
    this._selectedPath = new Path2D();
    /** @type {readonly import("../core/painting.js").ClassEntry[] | null} whose colors are shown */
    this._coloured = null;
    this._drawing = false;
    this._pointers = new Map();
    this._panning = false;
    this._spaceHeld = false;
    this.classes = new ClassList(need(root, ".classes", HTMLElement), this, editable);
    this.selectionPanel = new SelectionPanel(need(root, ".selection", HTMLElement), this);
    this._buildTools();
    this._buildOptions();
    for (const view of this.views) {
      view.beforeDrawing = () => this._update();
      view.overlay = (context) => this._drawOverlay(context);
      this._listen(view.canvas);
    }
    const area = this.views[0].canvas;
    new ResizeObserver(() => {
      const { width, height } = area.getBoundingClientRect();
      if (width && height) this.camera.resize({ width, height });
      this.invalidate();
    }).observe(area);
    this.camera.listeners.add(() => {
      need(root, ".zoom", HTMLElement).textContent = `${Math.round(this.camera.scale * 100)} %`;
    });
    this.open(painting);
  }

  /** @param {Painting} painting */
  open(painting) {
    this.painting = painting;
    this.image = new PlaneImage(painting.size);
    this.marksImage = painting.marks ? new PlaneImage(painting.size) : null;
    this.outline = null;
    this.grip = null;
    painting.onchange = (box) => this._changed(box);
    painting.onstep = (travelled) => {
      this.refresh();
      this.onstep(travelled);
    };
    this.camera.show(painting.size);
    this.value = Math.min(this.value, Math.max(0, painting.classes.length - 1));
    if (painting.classes[this.value]?.removed) this.value = painting.classes.findIndex((entry) => !entry.removed);
    this._coloured = null;
    this._selected = null;
    this.refresh();
  }

  /** Show what is beside the pixels: classes, selection, which steps can be taken back. */
  refresh() {
    const { classes, history, selection } = this.painting;
    if (this._coloured !== classes) {
      this._coloured = classes;
      this.image.setColours(classes);
      this.marksImage?.setColours(classes);
      this._changed(null);
    }
    need(this.root, ".undo", HTMLButtonElement).disabled = !history.done.length;
    need(this.root, ".redo", HTMLButtonElement).disabled = !history.undone.length;
    this.classes.show();
    this.selectionPanel.show(selection);
    this.invalidate();
  }

  invalidate() {
    for (const view of this.views) view.invalidate();
  }

  /** @param {Point[] | null} outline */
  setOutline(outline) {
    this.outline = outline;
    this.invalidate();
  }

  /** @param {number} value  a class */
  choose(value) {
    const entry = this.painting.classes[value];
    if (!entry || entry.removed) return;
    this.value = value;
    this.classes.show();
    this.announce(entry.name);
  }

  /** @param {Tool} tool */
  use(tool) {
    if (this.painting.busy) return;
    this.tool = tool;
    this.setOutline(null);
    for (const each of this.root.querySelectorAll(".tools button")) {
      each.setAttribute("aria-pressed", String(each instanceof HTMLElement && each.dataset.tool === tool.id));
    }
    need(this.root, ".size-option", HTMLElement).hidden = !tool.sized;
    need(this.root, ".hint", HTMLElement).textContent = tool.hint;
    this.root.dispatchEvent(new CustomEvent("tool", { detail: tool.id }));
    this.invalidate();
  }

  /** @param {number} size */
  setBrushSize(size) {
    this.brushSize = Math.max(1, Math.min(MAX_BRUSH, Math.round(size)));
    remember("brushSize", this.brushSize);
    need(this.root, ".size", HTMLInputElement).value = String(this.brushSize);
    need(this.root, ".size-value", HTMLOutputElement).value = `${this.brushSize} px`;
    this.invalidate();
  }

  undo() {
    if (!this.painting.busy && !this.painting.undo()) this.announce("nothing to undo");
  }

  redo() {
    if (!this.painting.busy && !this.painting.redo()) this.announce("nothing to redo");
  }

  /** @param {string} words  for screen readers */
  announce(words) {
    need(document, "#announcer", HTMLElement).textContent = words;
  }

  /**
   * A key that was pressed anywhere on the page but in a field.
   * @param {KeyboardEvent} event
   * @returns {boolean} whether it meant something
   */
  key(event) {
    this.shiftHeld = event.shiftKey;
    const onCanvas = event.target instanceof HTMLCanvasElement;
    if (event.ctrlKey || event.metaKey) return this._controlKey(event);
    if (onCanvas && event.key.startsWith("Arrow")) return this._arrow(event);
    if (onCanvas && event.key === "Enter") return this._enter();
    if (event.key === " " && onCanvas) {
      this._spaceHeld = true;
      return true;
    }
    if (event.shiftKey && /^[hv]$/i.test(event.key)) {
      this.painting.flip(event.key.toLowerCase() === "h" ? "across" : "down");
      return true;
    }
    const simple = this._simpleKeys()[event.key];
    if (simple) {
      simple();
      return true;
    }
    if (/^[1-9]$/.test(event.key)) {
      const visible = this.painting.classes.flatMap((entry, place) => (entry.removed ? [] : [place]));
      if (visible[Number(event.key) - 1] !== undefined) this.choose(visible[Number(event.key) - 1]);
      return true;
    }
    const tool = this.tools.find(({ key }) => key === event.key.toLowerCase());
    if (tool && !event.altKey) this.use(tool);
    return tool !== undefined;
  }

  /** @returns {Record<string, () => void>} */
  _simpleKeys() {
    const turn = (/** @type {number} */ degrees) => {
      const angle = this.painting.selection?.placement.angle ?? 0;
      this.painting.move({ angle: angle + degrees }, "turn");
    };
    return {
      Escape: () => this._letGo(),
      Delete: () => this.painting.removeSelection(),
      Backspace: () => this.painting.removeSelection(),
      "[": () => this.setBrushSize(this.brushSize / 1.25 - 0.5),
      "]": () => this.setBrushSize(this.brushSize * 1.25 + 0.5),
      "+": () => this.camera.zoomAtCentre(ZOOM_STEP),
      "=": () => this.camera.zoomAtCentre(ZOOM_STEP),
      "-": () => this.camera.zoomAtCentre(1 / ZOOM_STEP),
      0: () => this.camera.fit(),
      "<": () => turn(-5),
      ">": () => turn(5),
    };
  }

  /** @param {KeyboardEvent} event */
  _controlKey(event) {
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) this.undo();
    else if (key === "y" || key === "z") this.redo();
    else if (key === "d") this.painting.duplicate();
    else return false;
    return true;
  }

  /** @param {KeyboardEvent} event */
  _arrow(event) {
    const by = event.shiftKey ? 10 : 1;
    const dx = { ArrowLeft: -by, ArrowRight: by }[event.key] ?? 0;
    const dy = { ArrowUp: -by, ArrowDown: by }[event.key] ?? 0;
    const placement = this.painting.selection?.placement;
    if (placement && event.altKey) {
      const [width, height] = [1 + dx * 0.02, 1 - dy * 0.02];
      this.painting.move({ scaleX: placement.scaleX * width, scaleY: placement.scaleY * height }, "scale");
    } else if (placement) {
      this.painting.move({ x: placement.x + dx, y: placement.y + dy }, "nudge");
    } else {
      const from = this.cursor ?? { x: this.painting.size.width / 2, y: this.painting.size.height / 2 };
      this._moveCursor({ x: from.x + dx, y: from.y + dy });
    }
    return true;
  }

  /** @param {Point} to */
  _moveCursor(to) {
    const { width, height } = this.painting.size;
    const x = Math.max(0.5, Math.min(width - 0.5, Math.floor(to.x) + 0.5));
    const y = Math.max(0.5, Math.min(height - 0.5, Math.floor(to.y) + 0.5));
    const before = this.cursor && this.painting.classAt(this.cursor);
    this.cursor = { x, y };
    this.camera.reveal(this.cursor);
    const now = this.painting.classAt(this.cursor);
    if (now !== null && now !== before) this.announce(this.painting.classes[now].name);
    this._showPlace(this.cursor);
    this.invalidate();
  }

  _enter() {
    if (!this.cursor) {
      this._moveCursor({ x: this.painting.size.width / 2, y: this.painting.size.height / 2 });
      return true;
    }
    this.tool.down(this, this.cursor);
    if (this.painting.busy) this.tool.up?.(this);
    return true;
  }

  _letGo() {
    if (this.painting.busy) {
      this.painting.cancelStroke();
      this.grip = null;
    } else if (this.outline) {
      this.setOutline(null);
    } else {
      this.painting.deselect();
    }
  }

  /** @param {Box | null} box */
  _changed(box) {
    const { width, height } = this.painting.size;
    this._dirty = joinBoxes(this._dirty, box ?? { left: 0, top: 0, right: width, bottom: height });
    this.invalidate();
  }

  /** Bring the images up to date; called before the views are drawn. */
  _update() {
    if (!this._dirty) return;
    this.image.update(this.painting.ids, this._dirty);
    if (this.painting.marks) this.marksImage?.update(this.painting.marks, this._dirty);
    this._dirty = null;
    this.selectionPanel.show(this.painting.selection);
    this.onpixels();
  }

  /** @param {CanvasRenderingContext2D} context */
  _drawOverlay(context) {
    const { camera } = this;
    if (this.painting.erased) this._drawErased(context);
    this._drawSelection(context);
    if (this.outline) {
      const corners = [...this.outline, ...(this.tool.id === "polygon" && this.hover ? [this.hover] : [])];
      context.beginPath();
      corners.map((corner) => camera.toView(corner)).forEach(({ x, y }) => context.lineTo(x, y));
      twoToned(context);
      if (this.tool.id === "polygon") for (const corner of this.outline) drawHandle(context, camera.toView(corner));
    }
    const at = this.cursor ?? this.hover;
    if (!at) return;
    const { x, y } = camera.toView(at);
    if (this.tool.sized) {
      context.beginPath();
      context.arc(x, y, Math.max(2, (this.brushSize * camera.scale) / 2), 0, 2 * Math.PI);
      twoToned(context);
    }
    if (this.cursor) {
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 12 * dx, y + 12 * dy);
      }
      twoToned(context);
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  _drawErased(context) {
    const { scale, x, y } = this.camera;
    const path = pathOf(borderLines(/** @type {Uint8Array} */ (this.painting.erased), this.painting.size, true));
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    twoToned(context, path, scale);
    context.restore();
  }

  /** @param {CanvasRenderingContext2D} context */
  _drawSelection(context) {
    const { selection, size } = this.painting;
    if (!selection) return;
    if (this._selected !== selection) {
      this._selected = selection;
      this._selectedPath = pathOf(borderLines(placedMask(size, selection.region, selection.placement), size, true));
    }
    const { scale, x, y } = this.camera;
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    twoToned(context, this._selectedPath, scale);
    context.restore();
    const { sides, turn } = handles(selection, scale);
    const corners = [0, 2, 7, 5].map((place) => this.camera.toView(sides[place].at));
    context.beginPath();
    corners.forEach((corner) => context.lineTo(corner.x, corner.y));
    context.closePath();
    const [top, handle] = [this.camera.toView(sides[1].at), this.camera.toView(turn)];
    context.moveTo(top.x, top.y);
    context.lineTo(handle.x, handle.y);
    context.lineWidth = 1;
    context.strokeStyle = "#0008";
    context.stroke();
    for (const { at } of sides) drawHandle(context, this.camera.toView(at));
    drawHandle(context, handle, true);
  }

  _buildTools() {
    const bar = need(this.root, ".tools", HTMLElement);
    for (const tool of this.tools) {
      const made = button({
        icon: tool.id,
        label: `${tool.label} (${tool.key.toUpperCase()})`,
        action: () => this.use(tool),
      });
      made.dataset.tool = tool.id;
      made.setAttribute("aria-keyshortcuts", tool.key);
      bar.append(made);
    }
  }

  _buildOptions() {
    const size = need(this.root, ".size", HTMLInputElement);
    size.addEventListener("input", () => this.setBrushSize(Number(size.value)));
    this.setBrushSize(this.brushSize);
    const bar = need(this.root, ".history", HTMLElement);
    const [undo, redo] = [
      button({ icon: "undo", label: "Undo (Ctrl+Z)", action: () => this.undo(), kind: "undo" }),
      button({ icon: "redo", label: "Redo (Ctrl+Shift+Z)", action: () => this.redo(), kind: "redo" }),
    ];
    bar.append(undo, redo);
    need(this.root, ".zooming", HTMLElement).append(
      button({ icon: "minus", label: "Zoom out (−)", action: () => this.camera.zoomAtCentre(1 / ZOOM_STEP) }),
      element("span", { class: "zoom" }, "100 %"),
      button({ icon: "plus", label: "Zoom in (+)", action: () => this.camera.zoomAtCentre(ZOOM_STEP) }),
      button({ icon: "fit", label: "Show all (0)", action: () => this.camera.fit() }),
    );
  }

  /** @param {HTMLCanvasElement} canvas */
  _listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => this._down(canvas, event));
    canvas.addEventListener("pointermove", (event) => this._move(canvas, event));
    canvas.addEventListener("pointerup", (event) => this._up(event));
    canvas.addEventListener("pointercancel", (event) => {
      this._pointers.delete(event.pointerId);
      this._letGo();
    });
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.invalidate();
    });
    canvas.addEventListener("dblclick", () => {
      if (this.tool.id === "polygon" && this.outline) {
        closeOutline(this, (mask) => this.painting.fillArea(mask, this.value));
      }
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keyup", (event) => {
      if (event.key === " ") this._spaceHeld = false;
      this.shiftHeld = event.shiftKey;
    });
    canvas.addEventListener("blur", () => {
      this._spaceHeld = false;
      this.cursor = null;
      this.invalidate();
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const { left, top } = canvas.getBoundingClientRect();
        const at = { x: event.clientX - left, y: event.clientY - top };
        if (event.shiftKey) this.camera.pan(-event.deltaY - event.deltaX, 0);
        else this.camera.zoom(at, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
      },
      { passive: false },
    );
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {PointerEvent} event
   * @returns {Point} of the view
   */
  _inView(canvas, event) {
    const { left, top } = canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  /** @param {HTMLCanvasElement} canvas @param {PointerEvent} event */
  _down(canvas, event) {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const at = this._inView(canvas, event);
    this._pointers.set(event.pointerId, at);
    this.cursor = null;
    this.shiftHeld = event.shiftKey;
    if (this._pointers.size > 1) {
      this.painting.cancelStroke(); // a second finger: no stroke was meant
      this.grip = null;
      this.outline = null;
      this._panning = true;
      return;
    }
    if (event.button === 1 || this._spaceHeld) {
      this._panning = true;
      return;
    }
    if (event.button !== 0) return;
    const point = this.camera.toCanvas(at);
    if (event.altKey) {
      const value = this.painting.classAt(point);
      if (value !== null) this.choose(value);
      return;
    }
    this._drawing = true;
    this.tool.down(this, point);
  }

  /** @param {HTMLCanvasElement} canvas @param {PointerEvent} event */
  _move(canvas, event) {
    const at = this._inView(canvas, event);
    this.hover = this.camera.toCanvas(at);
    this.shiftHeld = event.shiftKey;
    this._showPlace(this.hover);
    const before = this._pointers.get(event.pointerId);
    if (before && this._panning) this._panOrPinch(event.pointerId, before, at);
    else if (before && this._drawing) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const each of events.length ? events : [event]) {
        this.tool.move?.(this, this.camera.toCanvas(this._inView(canvas, each)));
      }
    }
    if (before) this._pointers.set(event.pointerId, at);
    this.invalidate();
  }

  /**
   * @param {number} pointer
   * @param {Point} before
   * @param {Point} at
   */
  _panOrPinch(pointer, before, at) {
    const other = [...this._pointers].find(([id]) => id !== pointer)?.[1];
    if (!other) {
      this.camera.pan(at.x - before.x, at.y - before.y);
      return;
    }
    const apart = Math.hypot(before.x - other.x, before.y - other.y);
    const now = Math.hypot(at.x - other.x, at.y - other.y);
    this.camera.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    if (apart > 10 && now > 10) this.camera.zoom({ x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 }, now / apart);
  }

  /** @param {PointerEvent} event */
  _up(event) {
    this._pointers.delete(event.pointerId);
    if (this._drawing && !this._panning) this.tool.up?.(this);
    this._drawing = false;
    if (!this._pointers.size) this._panning = false;
    if (event.pointerType === "touch") this.hover = null;
    this.invalidate();
  }

  /** @param {Point} point */
  _showPlace(point) {
    const value = this.painting.classAt(point);
    const place = need(this.root, ".place", HTMLElement);
    place.textContent =
      value === null ? "" : `${Math.floor(point.x)}, ${Math.floor(point.y)}  ${this.painting.classes[value].name}`;
  }
}

/**
 * Draw the current path, or another, so that it shows on every ground.
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} [path]
 * @param {number} scale
 */
function twoToned(context, path, scale = 1) {
  for (const [width, colour] of /** @type {const} */ ([[3, "#000a"], [1.25, "#fff"]])) {
    context.lineWidth = width / scale;
    context.strokeStyle = colour;
    if (path) context.stroke(path);
    else context.stroke();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point} at
 * @param {boolean} round
 */
function drawHandle(context, { x, y }, round = false) {
  context.beginPath();
  if (round) context.arc(x, y, 5, 0, 2 * Math.PI);
  else context.rect(x - 4, y - 4, 8, 8);
  context.fillStyle = "#fff";
  context.fill();
  context.lineWidth = 1.25;
  context.strokeStyle = "#0009";
  context.stroke();
}
