/** Which part of the canvas is shown, and how large; several views may share one. */

/** @typedef {import("../core/raster.js").Point} Point */
/** @typedef {import("../core/raster.js").Size} Size */

const MARGIN = 14;
export const MAX_ZOOM = 48;
export const ZOOM_STEP = 1.25;

export class Camera {
  constructor() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    /** @type {Size} */
    this.size = { width: 1, height: 1 };
    /** @type {Size} */
    this.viewport = { width: 1, height: 1 };
    /** Whether the whole canvas is shown, and should go on being when the window changes. */
    this.fitted = true;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  get fitScale() {
    const across = (this.viewport.width - 2 * MARGIN) / this.size.width;
    const down = (this.viewport.height - 2 * MARGIN) / this.size.height;
    return Math.max(0.02, Math.min(across, down));
  }

  /** Show the whole canvas. */
  fit() {
    this.scale = this.fitScale;
    this.x = (this.viewport.width - this.scale * this.size.width) / 2;
    this.y = (this.viewport.height - this.scale * this.size.height) / 2;
    this.fitted = true;
    this._changed();
  }

  /** @param {Size} viewport */
  resize(viewport) {
    if (viewport.width === this.viewport.width && viewport.height === this.viewport.height) return;
    this.viewport = viewport;
    if (this.fitted) this.fit();
    else this._changed();
  }

  /** @param {Size} size */
  show(size) {
    const same = size.width === this.size.width && size.height === this.size.height;
    this.size = size;
    if (!same || this.fitted) this.fit();
  }

  /**
   * Zoom so that what is under a point of the view stays there.
   * @param {Point} at
   * @param {number} factor
   */
  zoom(at, factor) {
    const scale = Math.min(MAX_ZOOM, Math.max(this.fitScale / 2, this.scale * factor));
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this._changed();
  }

  /** @param {number} factor */
  zoomAtCentre(factor) {
    this.zoom({ x: this.viewport.width / 2, y: this.viewport.height / 2 }, factor);
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this._changed();
  }

  /**
   * Move as little as shows a point.
   * @param {Point} point  on the canvas
   */
  reveal(point) {
    const { x, y } = this.toView(point);
    const right = this.viewport.width - MARGIN;
    const bottom = this.viewport.height - MARGIN;
    const dx = x < MARGIN ? MARGIN - x : x > right ? right - x : 0;
    const dy = y < MARGIN ? MARGIN - y : y > bottom ? bottom - y : 0;
    if (dx || dy) this.pan(dx, dy);
  }

  /** @param {Point} point  of the view @returns {Point} on the canvas */
  toCanvas(point) {
    return { x: (point.x - this.x) / this.scale, y: (point.y - this.y) / this.scale };
  }

  /** @param {Point} point  on the canvas @returns {Point} of the view */
  toView(point) {
    return { x: point.x * this.scale + this.x, y: point.y * this.scale + this.y };
  }

  _changed() {
    for (const listener of this.listeners) listener();
  }
}
