/** Drawing: planes and pictures as images, layers of them on a canvas, seen through a camera. */

import { rgb } from "../core/colors.js";

/** @typedef {import("../core/raster.js").Box} Box */
/** @typedef {import("../core/raster.js").Size} Size */
/** @typedef {{image: CanvasImageSource, opacity: number, smooth: boolean, share?: number}} Layer  share: of the width, from the left */

/** Pixels, and the surface that they are put on to be drawn. */
class PixelImage {
  /** @param {Size} size */
  constructor(size) {
    this.size = size;
    this.surface = new OffscreenCanvas(size.width, size.height);
    this._context = /** @type {OffscreenCanvasRenderingContext2D} */ (this.surface.getContext("2d"));
    this._pixels = new ImageData(size.width, size.height);
  }
}

/** A plane of class ids in its classes' colors. */
export class PlaneImage extends PixelImage {
  /** @param {Size} size */
  constructor(size) {
    super(size);
    this._values = new Uint32Array(this._pixels.data.buffer);
    this._table = new Uint32Array(256);
  }

  /**
   * @param {readonly {color: string}[]} classes  ids without a class are transparent
   */
  setColors(classes) {
    const bytes = new Uint8Array(this._table.buffer).fill(0);
    classes.forEach(({ color }, id) => bytes.set([...rgb(color), 255], 4 * id));
  }

  /**
   * @param {Readonly<Uint8Array>} plane
   * @param {Box} box  what changed
   */
  update(plane, box) {
    const { width } = this.size;
    for (let row = box.top; row < box.bottom; row += 1) {
      for (let index = row * width + box.left; index < row * width + box.right; index += 1) {
        this._values[index] = this._table[plane[index]];
      }
    }
    this._context.putImageData(this._pixels, 0, 0, box.left, box.top, box.right - box.left, box.bottom - box.top);
  }
}

/** A picture as it comes from a model. */
export class PictureImage extends PixelImage {
  /** @param {Size} size */
  constructor(size) {
    super(size);
    this._pixels.data.fill(255);
  }

  /** @param {Uint8Array} values  RGB */
  update(values) {
    const { data } = this._pixels;
    for (let from = 0, to = 0; from < values.length; from += 3, to += 4) {
      data[to] = values[from];
      data[to + 1] = values[from + 1];
      data[to + 2] = values[from + 2];
    }
    this._context.putImageData(this._pixels, 0, 0);
  }
}

/**
 * Lines as a path, from `borderLines`.
 * @param {readonly number[]} lines
 * @returns {Path2D}
 */
export function pathOf(lines) {
  const path = new Path2D();
  for (let place = 0; place < lines.length; place += 4) {
    path.moveTo(lines[place], lines[place + 1]);
    path.lineTo(lines[place + 2], lines[place + 3]);
  }
  return path;
}

/** A canvas element that shows layers; it draws at most once a frame. */
export class View {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./camera.js").Camera} camera
   */
  constructor(canvas, camera) {
    this.canvas = canvas;
    this.camera = camera;
    this._context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Layer[]} */
    this.layers = [];
    /** @type {{path: Path2D, color: string}[]} */
    this.outlines = [];
    /** @type {(context: CanvasRenderingContext2D) => void} drawn last, in the view's own pixels */
    this.overlay = () => {};
    /** @type {() => void} called before drawing */
    this.beforeDrawing = () => {};
    this._waiting = false;
    camera.listeners.add(() => this.invalidate());
  }

  /** Have it drawn with the next frame. */
  invalidate() {
    if (this._waiting) return;
    this._waiting = true;
    requestAnimationFrame(() => {
      this._waiting = false;
      this._draw();
    });
  }

  _draw() {
    const { canvas, camera, _context: context } = this;
    this.beforeDrawing();
    const box = canvas.getBoundingClientRect();
    if (!box.width || !box.height) return;
    const ratio = window.devicePixelRatio;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const { scale, x, y, size } = camera;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    for (const { image, opacity, smooth, share = 1 } of this.layers) {
      context.save();
      context.beginPath();
      context.rect(0, 0, share * size.width, size.height);
      context.clip();
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = smooth || scale < 1;
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0, size.width, size.height);
      context.restore();
    }
    context.globalAlpha = 1;
    for (const { path, color } of this.outlines) {
      context.lineWidth = 1.25 / scale;
      context.strokeStyle = color;
      context.stroke(path);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.overlay(context);
    canvas.dataset.camera = JSON.stringify({ scale, x, y });
  }
}
