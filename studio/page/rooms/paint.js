/** The Paint room: layouts on the model's canvas, the picture following the brush. */

import { ServerError, api } from "../api.js";
import { borderLines } from "../core/raster.js";
import { rgb } from "../core/colors.js";
import { Painting } from "../core/painting.js";
import { indexedPng, rgbPng } from "../core/png.js";
import { saying, tell } from "../dialogs.js";
import { button, download, element, need } from "../dom.js";
import { preference, remember } from "../drafts.js";
import { Editor } from "../editor/editor.js";
import { brush, eraser, fill, lasso, picker, polygon, select, selectLasso } from "../editor/tools.js";
import { PictureImage, pathOf } from "../editor/view.js";
import { Live } from "../live.js";
import { Comparison } from "./comparison.js";
import { Layouts, byColor } from "./layouts.js";

/** @typedef {import("../api.js").Model} Model */
/** @typedef {import("../live.js").Picture} Picture */

const TOOLS = [select, selectLasso, brush, eraser, fill, polygon, lasso, picker];

export class PaintRoom {
  /**
   * @param {HTMLElement} root
   * @param {import("../main.js").Studio} studio
   */
  constructor(root, studio) {
    this.root = root;
    this.studio = studio;
    /** @type {Model | null} */
    this.model = null;
    /** @type {Editor | null} */
    this.editor = null;
    /** @type {Live | null} */
    this.live = null;
    /** @type {Picture | null} */
    this.picture = null;
    this.scene = "";
    this.over = preference("over", false);
    this.ghost = preference("ghost", true);
    this.liveOn = true;
    this._writing = Promise.resolve();
    this.layouts = new Layouts(root, () => this.editor?.painting ?? null, (painting) => this._edit(painting));
    this.comparison = new Comparison(root, {
      onchange: () => this._arrange(),
      onpicture: () => this.editor?.invalidate(),
      onwanted: () => this._ask(),
    });
    this._build();
  }

  /** @param {import("../api.js").SceneSummary | null} scene */
  async show(scene) {
    this.hide();
    await this._writing;
    this.scene = scene?.name ?? "";
    this._empty(null);
    if (!scene) return this._empty("Open a scene: add a photograph, or start `semia studio SCENE`.");
    try {
      const model = await api.model(scene.name);
      if (this.scene !== scene.name) return undefined; // another has been chosen meanwhile
      this.model = model;
      await this._open(model);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (this.scene !== scene.name) return undefined;
      if (error.status === 503 && (await this.studio.showServer()) === "ended") return this._offerStart(error.message);
      const missing = error.status === 404 || error.status === 503;
      this._empty(error.status === 404 ? `${scene.name} has no generator yet.` : error.message, missing);
    }
    return undefined;
  }

  hide() {
    this.live?.close();
    this.live = null;
    this.comparison.close();
    this._writing = this.layouts.writeDraft();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.editor || !this.model) return false;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      void this.layouts.save();
      return true;
    }
    return this.editor.key(event);
  }

  /**
   * Show the workspace, or why there is none.
   * @param {string | null} why
   * @param {boolean} make  whether making a generator would help
   */
  _empty(why, make = false) {
    need(this.root, ".workspace", HTMLElement).hidden = why !== null;
    const empty = need(this.root, ".empty", HTMLElement);
    empty.hidden = why === null;
    if (why === null) return;
    this.model = null;
    this.layouts.end();
    empty.replaceChildren(element("p", {}, why));
    if (make) empty.append(button({ words: "Make the generator", action: () => this.studio.go("make"), kind: "primary" }));
  }

  /** @param {string} why */
  _offerStart(why) {
    this._empty(why);
    const start = async () => {
      await api.startTriton();
      await this.studio.go("paint");
    };
    const again = button({ words: "Start Triton again", action: () => void saying(start), kind: "primary" });
    need(this.root, ".empty", HTMLElement).append(again);
  }

  /** @param {Model} model */
  async _open(model) {
    const size = { width: model.width, height: model.height };
    const source = await api.source(this.scene).catch((error) => {
      tell(error.message, "trouble");
      return null;
    });
    if (this.model !== model) return;
    const ids = source?.ids ?? new Uint8Array(size.width * size.height);
    this._ghostPath = source ? pathOf(borderLines(source.ids, size)) : null;
    this.pictureImage = new PictureImage(size);
    this.picture = null;
    need(this.root, ".figures", HTMLElement).hidden = true;
    const painting = await this.layouts.begin(this.scene, model, ids);
    if (this.model !== model) return;
    this._edit(painting);
    await this._connect(model);
    await this.layouts.list();
  }

  /** @param {Painting} painting */
  _edit(painting) {
    if (this.editor) {
      this.editor.open(painting);
    } else {
      this.editor = new Editor(need(this.root, ".workspace", HTMLElement), TOOLS, painting, false);
      this.editor.use(select);
    }
    this.editor.onpixels = () => this._ask();
    this.editor.onstep = () => this.layouts.changed();
    this._arrange();
  }

  /** @param {Model} model */
  async _connect(model) {
    this.live?.close();
    this.live = new Live(
      this.scene,
      model.card,
      (picture) => this._showPicture(picture),
      (trouble) => void this._trouble(trouble),
    );
    this._ask();
    await this.comparison.open(this.scene, model);
  }

  /** Have the picture of the layout made. */
  _ask() {
    if (!this.liveOn || !this.live || !this.editor) return;
    const { size, ids } = this.editor.painting;
    this.live.offer(size, ids);
    this.comparison.offer(size, ids);
    this._showState("busy");
  }

  /** @param {Picture} picture */
  _showPicture(picture) {
    if (!this.pictureImage || picture.width !== this.pictureImage.size.width) return;
    this.picture = picture;
    this.pictureImage.update(picture.rgb);
    this.editor?.invalidate();
    this._showState(this.live?.busy ? "busy" : "idle");
    requestAnimationFrame(() => {
      const brushToPicture = performance.now() - picture.changedAt;
      const { ms, roundTrip, version } = picture;
      document.dispatchEvent(new CustomEvent("picture", { detail: { brushToPicture, ms, roundTrip, version } }));
    });
  }

  /** @param {"busy" | "idle" | "trouble"} state */
  _showState(state) {
    const badge = need(this.root, ".live-state", HTMLElement);
    badge.dataset.state = this.liveOn ? state : "off";
    const words = this.picture ? `${Math.round(this.picture.roundTrip)} ms` : "…";
    badge.textContent = !this.liveOn ? "paused" : state === "trouble" ? "no answer" : words;
    badge.title = this.picture ? `The model's own time: ${Math.round(this.picture.ms)} ms` : "";
  }

  /** @param {import("../live.js").Trouble | null} trouble */
  async _trouble(trouble) {
    const banner = need(this.root, ".banner", HTMLElement);
    if (!trouble) {
      banner.hidden = true;
      return;
    }
    this._showState("trouble");
    if (trouble.kind === "changed") {
      await this._modelChanged();
      return;
    }
    const server = await this.studio.showServer();
    // Of a Triton of our own, how to reach another one is no help.
    const what = trouble.kind === "unavailable" && server !== "joined" ? "Triton does not answer." : trouble.error;
    const ended = trouble.kind === "unavailable" && server === "ended";
    const state = `${trouble.kind} ${ended}`;
    if (!banner.hidden && banner.dataset.state === state) return;
    banner.dataset.state = state;
    banner.replaceChildren(element("span", {}, `${what} Your layout is safe; it is tried again.`));
    if (ended) banner.append(button({ words: "Start Triton again", action: () => void saying(() => this._startTriton()) }));
    banner.hidden = this.live?.troubled !== true; // all may be well by now
  }

  async _startTriton() {
    await api.startTriton();
    await this.studio.showServer();
    this._ask();
  }

  /** The model was published anew: go on with it if its canvas and classes are the same. */
  async _modelChanged() {
    const [before, { editor }] = [this.model, this];
    const model = await saying(() => api.model(this.scene));
    if (!model || !before || !editor) return;
    this.model = model;
    const { ids, size } = editor.painting;
    const mapped = byColor({ ids, classes: [...before.classes] }, model);
    if (model.width !== size.width || model.height !== size.height || !mapped) {
      await this.layouts.writeDraft();
      tell("The generator was made anew for another canvas or other classes: the layout begins with the photograph's.");
      await this._open(model);
      return;
    }
    tell(`The generator was made anew: version ${model.version}.`);
    this.layouts.model = model;
    if (JSON.stringify(before.classes) !== JSON.stringify(model.classes)) {
      this._edit(new Painting(size, mapped, model.classes));
    }
    await this._connect(model);
  }

  async _measure() {
    const { editor } = this;
    if (!editor) return;
    const list = need(this.root, ".figures", HTMLElement);
    const measure = need(this.root, ".figure-actions button", HTMLButtonElement);
    list.hidden = false;
    list.replaceChildren(element("dt", { class: "wide" }, "Measuring; the first time takes a while…"));
    measure.disabled = true;
    const { size, ids } = editor.painting;
    const figures = await saying(() => api.figures(this.scene, size, ids));
    measure.disabled = false;
    list.hidden = !figures;
    list.replaceChildren(
      ...Object.entries(figures ?? {}).flatMap(([name, value]) => [
        element("dt", {}, name),
        element("dd", {}, value === null ? "–" : value.toPrecision(3)),
      ]),
    );
  }

  async _downloadPicture() {
    if (!this.picture) return;
    download(await rgbPng(this.picture, this.picture.rgb), "image/png", `${this.layouts.name || this.scene} picture.png`);
  }

  async _downloadLabels() {
    if (!this.editor) return;
    const { size, ids, classes } = this.editor.painting;
    const colors = classes.map(({ color }) => rgb(color));
    download(await indexedPng(size, ids, colors), "image/png", `${this.layouts.name || this.scene}.png`);
  }

  // How it is shown.

  _build() {
    need(this.root, ".compare-actions", HTMLElement).append(...this.comparison.buttons(() => this.picture));
    need(this.root, ".figure-actions", HTMLElement).append(
      button({ words: "Measure this layout", action: () => void this._measure(), kind: "wide" }),
    );
    need(this.root, ".downloads", HTMLElement).append(
      button({ icon: "download", words: "Picture", action: () => void this._downloadPicture() }),
      button({ icon: "download", words: "Label map", action: () => void this._downloadLabels() }),
    );
    for (const choice of this.root.querySelectorAll("input[name=arrangement]")) {
      if (!(choice instanceof HTMLInputElement)) continue;
      choice.checked = (choice.value === "over") === this.over;
      choice.addEventListener("change", () => {
        this.over = choice.value === "over";
        remember("over", this.over);
        this._arrange();
      });
    }
    const opacity = need(this.root, ".opacity", HTMLInputElement);
    opacity.value = String(preference("opacity", 45));
    opacity.addEventListener("input", () => {
      remember("opacity", Number(opacity.value));
      this._arrange();
    });
    const ghost = need(this.root, ".ghost", HTMLInputElement);
    ghost.checked = this.ghost;
    ghost.addEventListener("change", () => {
      this.ghost = ghost.checked;
      remember("ghost", this.ghost);
      this._arrange();
    });
    const live = need(this.root, ".live", HTMLInputElement);
    live.checked = this.liveOn;
    live.addEventListener("change", () => {
      this.liveOn = live.checked;
      this._showState("idle");
      this._ask();
    });
    new ResizeObserver(() => this._arrangeViews()).observe(need(this.root, ".views", HTMLElement));
  }

  _arrange() {
    const { editor } = this;
    if (!editor || !this.pictureImage) return;
    const [labels, picture] = editor.views;
    const shade = Number(need(this.root, ".opacity", HTMLInputElement).value) / 100;
    const wipe = [];
    const pictureLayers = [{ image: this.pictureImage.surface, opacity: 1, smooth: false, share: 1 }];
    const compared = this.comparison.layer;
    if (compared) {
      pictureLayers.push({ image: compared.image, opacity: 1, smooth: false, share: compared.share });
      const { width, height } = this.pictureImage.size;
      wipe.push({ path: pathOf([compared.share * width, 0, compared.share * width, height]), color: "#fff" });
    }
    const labelLayer = { image: editor.image.surface, opacity: this.over ? shade : 1, smooth: false };
    labels.layers = this.over ? [...pictureLayers, labelLayer] : [labelLayer];
    picture.layers = pictureLayers;
    const outlines = this.ghost && this._ghostPath ? [{ path: this._ghostPath, color: "#0009" }, { path: this._ghostPath, color: "#fff6" }] : [];
    labels.outlines = this.over ? [...outlines, ...wipe] : outlines;
    picture.outlines = wipe;
    need(this.root, ".view.picture", HTMLElement).hidden = this.over;
    need(this.root, ".opacity-option", HTMLElement).hidden = !this.over;
    need(this.root, ".view.labels figcaption", HTMLElement).textContent = this.over ? "Layout over picture" : "Layout";
    this._arrangeViews();
    editor.invalidate();
  }

  /** Put two views beside or below each other, whichever makes them larger. */
  _arrangeViews() {
    const views = need(this.root, ".views", HTMLElement);
    const { width, height } = views.getBoundingClientRect();
    if (!this.model || !height) return;
    const { width: w, height: h } = this.model;
    const beside = Math.min(width / 2 / w, height / h);
    const below = Math.min(width / w, height / 2 / h);
    views.dataset.arrangement = this.over ? "one" : beside >= below ? "beside" : "below";
  }
}
