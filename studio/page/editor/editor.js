/** A painting on the page: its views, tools, pointer and keyboard. Rooms add what is around it. */

import { button, element, need } from "../dom.js";
import { preference, remember } from "../drafts.js";
import { joinBoxes } from "../core/raster.js";
import { Camera, ZOOM_STEP } from "./camera.js";
import { ClassList } from "./classes.js";
import { press } from "./keys.js";
import { Overlay } from "./overlay.js";
import { SelectionPanel } from "./selection.js";
import { closeOutline } from "./tools.js";
import { PlaneImage, View } from "./view.js";

/** @typedef {import("../core/raster.js").Box} Box */
/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("../core/painting.js").Painting} Painting */
/** @typedef {import("./tools.js").Tool} Tool */

const MAX_BRUSH = 160;

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
    /** @type {readonly import("../core/painting.js").ClassEntry[] | null} whose colors are shown */
    this._colored = null;
    this._drawing = false;
    this._pointers = new Map();
    this._panning = false;
    this.spaceHeld = false;
    this.classes = new ClassList(need(root, ".classes", HTMLElement), this, editable);
    this.selectionPanel = new SelectionPanel(need(root, ".selection", HTMLElement), this);
    this._buildTools();
    this._buildOptions();
    const overlay = new Overlay(this);
    for (const view of this.views) {
      view.beforeDrawing = () => this._update();
      view.overlay = (context) => overlay.draw(context);
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
    this._colored = null;
    this.refresh();
  }

  /** Show what is beside the pixels: classes, selection, which steps can be taken back. */
  refresh() {
    const { classes, history, selection } = this.painting;
    if (this._colored !== classes) {
      this._colored = classes;
      this.image.setColors(classes);
      this.marksImage?.setColors(classes);
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
    return press(this, event);
  }

  /** Let go of the stroke, the outline or the selection, whichever there is. */
  letGo() {
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
      this.letGo();
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
      if (event.key === " ") this.spaceHeld = false;
      this.shiftHeld = event.shiftKey;
    });
    canvas.addEventListener("blur", () => {
      this.spaceHeld = false;
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
    if (event.button === 1 || this.spaceHeld) {
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
    this.showPlace(this.hover);
    const before = this._pointers.get(event.pointerId);
    if (before && this._panning) this._panOrPinch(event.pointerId, before, at);
    else if (before && this._drawing) {
      const events = event.getCoalescedEvents?.() ?? [];
      // A region that is dragged needs to be shown where the pointer is, not everywhere it was.
      for (const each of events.length && !this.grip ? events : [event]) {
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

  /**
   * Show where the pointer or the cursor is.
   * @param {Point} point
   */
  showPlace(point) {
    const value = this.painting.classAt(point);
    const place = need(this.root, ".place", HTMLElement);
    place.textContent =
      value === null ? "" : `${Math.floor(point.x)}, ${Math.floor(point.y)}  ${this.painting.classes[value].name}`;
  }
}
