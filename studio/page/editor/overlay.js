/** What is drawn over the views: outlines, the selection with its handles, the brush, the keyboard's cursor. */

import { borderLines } from "../core/raster.js";
import { placedMask } from "../core/region.js";
import { handles } from "./grips.js";
import { pathOf } from "./view.js";

/** @typedef {import("../core/raster.js").Point} Point */

export class Overlay {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    /** @type {import("../core/painting.js").Selection | null} whose outline `_selectedPath` is */
    this._selected = null;
    this._selectedPath = new Path2D();
  }

  /** @param {CanvasRenderingContext2D} context */
  draw(context) {
    const { camera, painting, outline, tool, hover, cursor } = this.editor;
    if (painting.erased) this._drawErased(context);
    this._drawSelection(context);
    if (outline) {
      const corners = [...outline, ...(tool.id === "polygon" && hover ? [hover] : []), ...(cursor ? [cursor] : [])];
      context.beginPath();
      corners.map((corner) => camera.toView(corner)).forEach(({ x, y }) => context.lineTo(x, y));
      twoToned(context);
      if (tool.id === "polygon") for (const corner of outline) drawHandle(context, camera.toView(corner));
    }
    const at = cursor ?? hover;
    if (!at) return;
    const { x, y } = camera.toView(at);
    if (tool.sized) {
      context.beginPath();
      context.arc(x, y, Math.max(2, (this.editor.brushSize * camera.scale) / 2), 0, 2 * Math.PI);
      twoToned(context);
    }
    if (cursor) {
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
    const { painting, camera } = this.editor;
    const { scale, x, y } = camera;
    const path = pathOf(borderLines(/** @type {Uint8Array} */ (painting.erased), painting.size, true));
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    twoToned(context, path, scale);
    context.restore();
  }

  /** @param {CanvasRenderingContext2D} context */
  _drawSelection(context) {
    const { painting, camera } = this.editor;
    const { selection, size } = painting;
    if (!selection) return;
    if (this._selected !== selection) {
      this._selected = selection;
      this._selectedPath = pathOf(borderLines(placedMask(size, selection.region, selection.placement), size, true));
    }
    const { scale, x, y } = camera;
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    twoToned(context, this._selectedPath, scale);
    context.restore();
    const { sides, turn } = handles(selection, scale);
    const corners = [0, 2, 7, 5].map((place) => camera.toView(sides[place].at));
    context.beginPath();
    corners.forEach((corner) => context.lineTo(corner.x, corner.y));
    context.closePath();
    const [top, handle] = [camera.toView(sides[1].at), camera.toView(turn)];
    context.moveTo(top.x, top.y);
    context.lineTo(handle.x, handle.y);
    context.lineWidth = 1;
    context.strokeStyle = "#0008";
    context.stroke();
    for (const { at } of sides) drawHandle(context, camera.toView(at));
    drawHandle(context, handle, true);
  }
}

/**
 * Draw the current path, or another, so that it shows on every ground.
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} [path]
 * @param {number} scale
 */
function twoToned(context, path, scale = 1) {
  for (const [width, color] of /** @type {const} */ ([[3, "#000a"], [1.25, "#fff"]])) {
    context.lineWidth = width / scale;
    context.strokeStyle = color;
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
