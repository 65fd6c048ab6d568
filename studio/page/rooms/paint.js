/** The Paint room: layouts on the model's canvas, the picture following the brush. */

import { ServerError, api } from "../api.js";
import { borderLines } from "../core/raster.js";
import { rgb } from "../core/colors.js";
import { Painting } from "../core/painting.js";
import { indexedPng, rgbPng } from "../core/png.js";
import { ask, askName, saying, tell } from "../dialogs.js";
import { button, download, element, need } from "../dom.js";
import { deleteDraft, preference, readDraft, remember, writeDraft } from "../drafts.js";
import { Editor } from "../editor/editor.js";
import { brush, eraser, fill, lasso, picker, polygon, select, selectLasso } from "../editor/tools.js";
import { PictureImage, pathOf } from "../editor/view.js";
import { Live } from "../live.js";

/** @typedef {import("../api.js").Model} Model */
/** @typedef {import("../live.js").Picture} Picture */

const TOOLS = [select, selectLasso, brush, eraser, fill, polygon, lasso, picker];
const DRAFT_DELAY = 200;
const NAME_PATTERN = "[\\p{L}\\p{N}_][\\p{L}\\p{N}_ .\\-]*";
const NAME_HINT = "Letters, digits, spaces, - _ and .";

/** What stands for the layout of the photograph in the list. */
const SOURCE = "";

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
    /** @type {PictureImage | null} a picture to compare with */
    this.held = null;
    this.scene = "";
    this.layout = SOURCE; // the name of the layout that is open
    this.tag = "";
    this.unsaved = false;
    this.over = preference("over", false);
    this.ghost = preference("ghost", true);
    this.liveOn = true;
    this._layoutsShown = "";
    this._writing = Promise.resolve();
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
      this.model = await api.model(scene.name);
      await this._open(this.model);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      const missing = error.status === 404 || error.status === 503;
      this._empty(error.status === 404 ? `${scene.name} has no generator yet.` : error.message, missing);
    }
    return undefined;
  }

  hide() {
    this.live?.close();
    this.live = null;
    clearTimeout(this._draftTimer);
    this._writing = this._writeDraft();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.editor || !this.model) return false;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      void this._save();
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
    empty.replaceChildren(element("p", {}, why));
    if (make) empty.append(button({ words: "Make the generator", action: () => this.studio.go("make"), kind: "primary" }));
  }

  /** @param {Model} model */
  async _open(model) {
    const size = { width: model.width, height: model.height };
    const source = await api.source(this.scene).catch((error) => {
      tell(error.message, "trouble");
      return null;
    });
    const ids = source?.ids ?? new Uint8Array(size.width * size.height);
    this._ghostPath = source ? pathOf(borderLines(source.ids, size)) : null;
    this.pictureImage = new PictureImage(size);
    this.picture = null;
    if (this.held?.size.width !== size.width || this.held.size.height !== size.height) this._hold(null);
    need(this.root, ".figures", HTMLElement).hidden = true;
    const painting = new Painting(size, Uint8Array.from(ids), model.classes);
    this.layout = SOURCE;
    this.tag = "";
    this.unsaved = false;
    const draft = await readDraft(this._draftKey()).catch(() => undefined);
    const restored = draft && draft.width === size.width && draft.height === size.height && byColour(draft, model);
    if (restored) {
      painting.ids.set(restored);
      this.layout = draft.name;
      this.tag = draft.tag;
      this.unsaved = true;
    } else if (draft) {
      tell("An unsaved layout is for another canvas or other classes; it stays where it is until you save here.");
    }
    this._edit(painting);
    this._connect(model);
    await this._listLayouts();
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
    this.editor.onstep = () => this._stepped();
    this._arrange();
  }

  /** @param {Model} model */
  _connect(model) {
    this.live?.close();
    this.live = new Live(
      this.scene,
      model.card,
      (picture) => this._showPicture(picture),
      (trouble) => void this._trouble(trouble),
    );
    this._ask();
  }

  /** Have the picture of the layout made. */
  _ask() {
    if (!this.liveOn || !this.live || !this.editor) return;
    this.live.offer(this.editor.painting.size, this.editor.painting.ids);
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
    const words = element("span", {}, `${trouble.error} Your layout is safe; it is tried again.`);
    if (banner.hidden || banner.dataset.kind !== trouble.kind) {
      banner.replaceChildren(words);
      banner.dataset.kind = trouble.kind;
      banner.hidden = false;
      if ((await this.studio.showServer()) === "ended" && trouble.kind === "unavailable") {
        banner.append(button({ words: "Start Triton again", action: () => void saying(() => this._startTriton()) }));
      }
    }
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
    const mapped = byColour({ ids, classes: [...before.classes] }, model);
    if (model.width !== size.width || model.height !== size.height || !mapped) {
      await this._writeDraft();
      tell("The generator was made anew for another canvas or other classes: the layout begins with the photograph's.");
      await this._open(model);
      return;
    }
    tell(`The generator was made anew: version ${model.version}.`);
    if (JSON.stringify(before.classes) !== JSON.stringify(model.classes)) {
      this._edit(new Painting(size, mapped, model.classes));
    }
    this._connect(model);
  }

  _stepped() {
    this.unsaved = true;
    clearTimeout(this._draftTimer);
    this._draftTimer = setTimeout(() => void this._writeDraft(), DRAFT_DELAY);
    this._showLayouts();
  }

  _draftKey() {
    return `paint:${this.scene}`;
  }

  async _writeDraft() {
    if (!this.editor || !this.model || !this.unsaved) return;
    const { ids, size, classes } = this.editor.painting;
    const draft = { ...size, ids: Uint8Array.from(ids), marks: null, classes: [...classes], name: this.layout, tag: this.tag };
    await writeDraft(this._draftKey(), draft).catch(() => undefined);
  }

  async _saved() {
    clearTimeout(this._draftTimer);
    this.unsaved = false;
    await deleteDraft(this._draftKey()).catch(() => undefined);
    await this._listLayouts();
  }

  // Layouts.

  async _listLayouts() {
    this.layouts = (await saying(() => api.layouts(this.scene))) ?? [];
    this._showLayouts();
  }

  _showLayouts() {
    const list = need(this.root, ".layouts", HTMLElement);
    const names = [SOURCE, ...(this.layouts ?? []).map(({ name }) => name)];
    if (!names.includes(this.layout)) names.push(this.layout);
    const state = JSON.stringify([names, this.layout, this.unsaved]);
    if (state === this._layoutsShown && list.childElementCount) return;
    this._layoutsShown = state;
    list.replaceChildren(
      ...names.map((name) => {
        const current = name === this.layout;
        const words = (name || "the photograph's own") + (current && this.unsaved ? " •" : "");
        const row = button({ words, action: () => void this._openLayout(name), kind: current ? "layout current" : "layout" });
        row.setAttribute("aria-current", String(current));
        return row;
      }),
    );
    for (const each of this.root.querySelectorAll("button.of-layout")) {
      /** @type {HTMLButtonElement} */ (each).disabled = this.layout === SOURCE;
    }
  }

  /** @param {string} name */
  async _openLayout(name) {
    if (!this.model || !this.editor) return;
    if (this.unsaved) {
      const answer = await ask(
        "Keep what you painted?",
        [element("p", {}, `${this.layout || "This layout"} has changes that are not saved.`)],
        [{ value: "save", words: "Save", kind: "primary" }, { value: "drop", words: "Discard" }],
      );
      if (!answer || (answer === "save" && !(await this._save()))) return;
    }
    await saying(async () => {
      const { ids, head } = await (name ? api.layout(this.scene, name) : api.source(this.scene));
      const { width, height, classes } = /** @type {Model} */ (this.model);
      this._edit(new Painting({ width, height }, ids, classes));
      this.layout = name;
      this.tag = head.tag ?? "";
      await this._saved();
    });
  }

  /** @returns {Promise<boolean>} whether it was saved */
  async _save() {
    return this.layout === SOURCE ? this._saveAs() : this._write(this.layout, this.tag);
  }

  async _saveAs() {
    const name = await askName("Save the layout", "Save", this.layout || "layout 1", NAME_PATTERN, NAME_HINT);
    return name ? this._write(name, "") : false;
  }

  /**
   * @param {string} name
   * @param {string} tag
   * @returns {Promise<boolean>}
   */
  async _write(name, tag) {
    if (!this.model || !this.editor) return false;
    try {
      const saved = await api.saveLayout(this.scene, name, this.model, this.editor.painting.ids, tag);
      this.layout = name;
      this.tag = saved.tag;
      await this._saved();
      tell(`Saved as cond/${name}.png`);
      return true;
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 412 || tag === "*") {
        tell(error instanceof Error ? error.message : String(error), "trouble");
        return false;
      }
      const answer = await ask(`Save ${name}?`, [element("p", {}, `${error.message}.`)], [
        { value: "other", words: "Save under another name", kind: "primary" },
        { value: "over", words: "Overwrite" },
      ]);
      if (answer === "over") return this._write(name, "*");
      return answer === "other" ? this._saveAs() : false;
    }
  }

  async _rename() {
    const name = await askName("Rename the layout", "Rename", this.layout, NAME_PATTERN, NAME_HINT);
    if (!name || name === this.layout) return;
    await saying(async () => {
      await api.renameLayout(this.scene, this.layout, name);
      this.layout = name;
      await this._writeDraft();
      await this._listLayouts();
    });
  }

  async _delete() {
    const question = element("p", {}, `cond/${this.layout}.png is deleted from the disk.`);
    if ((await ask(`Delete ${this.layout}?`, [question], [{ value: "yes", words: "Delete", kind: "danger" }])) !== "yes") return;
    await saying(async () => {
      await api.deleteLayout(this.scene, this.layout);
      this.layout = SOURCE;
      this.tag = "";
      await this._writeDraft();
      await this._listLayouts();
    });
  }

  /**
   * Keep a picture to compare with, such as an earlier version's.
   * @param {Picture | null} picture
   */
  _hold(picture) {
    this.held = picture && new PictureImage(picture);
    if (picture) this.held?.update(picture.rgb);
    need(this.root, ".wipe-option", HTMLElement).hidden = !picture;
    need(this.root, ".let-go", HTMLElement).hidden = !picture;
    this._arrange();
  }

  async _measure() {
    const { editor } = this;
    if (!editor) return;
    const list = need(this.root, ".figures", HTMLElement);
    list.hidden = false;
    list.replaceChildren(element("dt", {}, "Measuring…"));
    const { size, ids } = editor.painting;
    const figures = await saying(() => api.figures(this.scene, size, ids));
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
    download(await rgbPng(this.picture, this.picture.rgb), "image/png", `${this.layout || this.scene} picture.png`);
  }

  async _downloadLabels() {
    if (!this.editor) return;
    const { size, ids, classes } = this.editor.painting;
    const colours = classes.map(({ colour }) => rgb(colour));
    download(await indexedPng(size, ids, colours), "image/png", `${this.layout || this.scene}.png`);
  }

  // How it is shown.

  _build() {
    need(this.root, ".layout-actions", HTMLElement).append(
      button({ words: "Save", label: "Save (Ctrl+S)", action: () => void this._save(), kind: "primary" }),
      button({ words: "Save as…", action: () => void this._saveAs() }),
      button({ words: "Rename…", action: () => void this._rename(), kind: "of-layout" }),
      button({ words: "Delete…", action: () => void this._delete(), kind: "of-layout" }),
    );
    need(this.root, ".compare-actions", HTMLElement).append(
      button({ words: "Hold this picture", action: () => this._hold(this.picture) }),
      button({ words: "Let go", action: () => this._hold(null), kind: "let-go" }),
    );
    need(this.root, ".let-go", HTMLElement).hidden = true;
    need(this.root, ".wipe", HTMLInputElement).addEventListener("input", () => this._arrange());
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
    if (this.held) {
      const share = Number(need(this.root, ".wipe", HTMLInputElement).value) / 100;
      pictureLayers.push({ image: this.held.surface, opacity: 1, smooth: false, share });
      const { width, height } = this.held.size;
      wipe.push({ path: pathOf([share * width, 0, share * width, height]), colour: "#fff" });
    }
    const labelLayer = { image: editor.image.surface, opacity: this.over ? shade : 1, smooth: false };
    labels.layers = this.over ? [...pictureLayers, labelLayer] : [labelLayer];
    picture.layers = pictureLayers;
    const outlines = this.ghost && this._ghostPath ? [{ path: this._ghostPath, colour: "#0009" }, { path: this._ghostPath, colour: "#fff6" }] : [];
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

/**
 * Class ids by a model's classes, matched by color; null if a color is not among them.
 * @param {{ids: Uint8Array, classes: {colour: string}[]}} from
 * @param {Model} model
 * @returns {Uint8Array | null}
 */
function byColour({ ids, classes }, model) {
  const places = classes.map(({ colour }) => model.classes.findIndex((entry) => entry.colour === colour));
  return ids.some((id) => !(places[id] >= 0)) ? null : ids.map((id) => places[id]);
}
