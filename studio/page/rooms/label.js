/** The Label room: from a photograph to a label map, with help. */

import { ServerError, api } from "../api.js";
import { nextColor } from "../core/colors.js";
import { borderLines } from "../core/raster.js";
import { NO_MARK, Painting } from "../core/painting.js";
import { Superpixels } from "../core/superpixels.js";
import { ask, saying, tell } from "../dialogs.js";
import { button, element, need } from "../dom.js";
import { deleteDraft, preference, readDraft, remember, writeDraft } from "../drafts.js";
import { Editor } from "../editor/editor.js";
import {
  brush, eraser, fill, lasso, object, picker, polygon, regions, select, selectLasso, stroke, wipe,
} from "../editor/tools.js";
import { pathOf } from "../editor/view.js";

const TOOLS = [stroke, wipe, regions, brush, eraser, fill, polygon, lasso, select, selectLasso, picker];
const DRAFT_DELAY = 200;

/** How much of the labels' opacity shows while a photograph has no labels yet. */
const FRESH = 0.35;

export class LabelRoom {
  /**
   * @param {HTMLElement} root
   * @param {import("../main.js").Studio} studio
   */
  constructor(root, studio) {
    this.root = root;
    this.studio = studio;
    /** @type {Editor | null} */
    this.editor = null;
    this.scene = "";
    this.tag = "";
    this.unsaved = false;
    this.following = true; // whether the fill follows every stroke
    /** @type {"fill" | "alike"} */
    this.way = "fill";
    /** @type {Path2D | null} */
    this.regionLines = null;
    this._asked = 0;
    /** @type {[number, number, boolean][]} clicks on one object */
    this._clicks = [];
    this._clickValue = 0;
    /** @type {import("../core/history.js").Step<any> | undefined} what the last click did */
    this._clickStep = undefined;
    this._filling = false;
    this._fresh = false;
    this._writing = Promise.resolve();
    this._build();
  }

  /** @param {import("../api.js").SceneSummary | null} scene */
  async show(scene) {
    const empty = need(this.root, ".empty", HTMLElement);
    const workspace = need(this.root, ".workspace", HTMLElement);
    empty.hidden = scene !== null;
    workspace.hidden = scene === null;
    if (!scene) return;
    if (this.scene === scene.name && this.editor) {
      this.editor.invalidate();
      return;
    }
    this.hide();
    await this._writing;
    this.scene = scene.name;
    /** @type {[ImageBitmap, import("../api.js").LabelMap]} */
    let opened;
    try {
      opened = await Promise.all([api.photograph(scene.name), api.label(scene.name)]);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (this.scene !== scene.name) return;
      this.scene = "";
      workspace.hidden = true;
      empty.hidden = false;
      empty.textContent = error.message;
      return;
    }
    if (this.scene !== scene.name) return; // another has been chosen meanwhile
    const [photograph, label] = opened;
    for (const note of label.head.notes ?? []) tell(note);
    await this._open(photograph, label);
  }

  hide() {
    clearTimeout(this._draftTimer);
    this._writing = this._writeDraft();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.editor) return false;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      void this._save();
      return true;
    }
    if (event.key === "g") {
      void this._assist(this.way);
      return true;
    }
    return this.editor.key(event);
  }

  /**
   * @param {ImageBitmap} photograph
   * @param {import("../api.js").LabelMap} label
   */
  async _open(photograph, { width, height, ids, head }) {
    const size = { width, height };
    const first = nextColor([]);
    /** @type {import("../core/painting.js").ClassEntry[]} */
    const classes = head.classes.length
      ? head.classes
      : [{ name: "background", color: first }, { name: "object", color: nextColor([first]) }];
    const draft = await readDraft(this._draftKey()).catch(() => undefined);
    const restored = draft && draft.width === width && draft.height === height ? draft : null;
    this.painting = restored
      ? new Painting(size, restored.ids, restored.classes, restored.marks ?? new Uint8Array(ids.length).fill(NO_MARK))
      : new Painting(size, ids, classes, new Uint8Array(ids.length).fill(NO_MARK));
    this.tag = restored ? restored.tag : head.tag;
    this.photograph = photograph;
    this.regionLines = null;
    this._fresh = !head.classes.length && !restored;
    this._setFollowing(this._fresh);
    if (this.editor) {
      this.editor.open(this.painting);
    } else {
      const { segmenter } = await api.state();
      const tools = segmenter ? [...TOOLS, object] : TOOLS;
      this.editor = new Editor(need(this.root, ".workspace", HTMLElement), tools, this.painting, true);
      this.editor.onclick = (point, inside) => void this._click(point, inside);
      this.editor.use(stroke);
    }
    this.editor.regions = null;
    this.editor.onstep = (travelled) => this._stepped(travelled);
    this.unsaved = Boolean(restored);
    need(this.root, "figcaption", HTMLElement).textContent = "Labels over photograph";
    this._arrange();
    this._showSaved();
  }

  /** @param {boolean} travelled  through undo or redo */
  _stepped(travelled) {
    this.unsaved = true;
    this._showSaved();
    clearTimeout(this._draftTimer);
    this._draftTimer = setTimeout(() => void this._writeDraft(), DRAFT_DELAY);
    const { editor } = this;
    if (!editor || travelled || this._filling || !this.following) return;
    const drewStroke = editor.tool === stroke || editor.tool === wipe;
    if (drewStroke && editor.painting.marks?.some((mark) => mark !== NO_MARK)) void this._assist(this.way);
  }

  /** @param {boolean} following */
  _setFollowing(following) {
    this.following = following;
    need(this.root, ".following", HTMLInputElement).checked = following;
  }

  /**
   * Fill from the strokes, or find more like them.
   * @param {"fill" | "alike"} way
   */
  async _assist(way) {
    const { editor } = this;
    const strokes = editor?.painting.marks;
    if (!editor || !strokes || editor.painting.busy) return;
    this.way = way;
    if (!strokes.some((mark) => mark !== NO_MARK)) {
      tell("Draw a stroke on each class first.");
      return;
    }
    this._asked += 1;
    const asked = this._asked;
    const { painting } = editor;
    const began = performance.now();
    const time = need(this.root, ".assist-time", HTMLElement);
    time.textContent = "working…";
    const found = await saying(() => api.assist(this.scene, way, painting.size, strokes));
    if (!found && asked === this._asked) time.textContent = "";
    if (!found || asked !== this._asked || painting !== editor.painting) return; // newer strokes are on their way
    if (painting.busy) painting.endStroke();
    this._filling = true;
    painting.replaceAll(found.ids);
    this._filling = false;
    this._fresh = false;
    this._arrange();
    time.textContent = `${Math.round(performance.now() - began)} ms`;
  }

  /**
   * Add a click on an object; the object's area is what all clicks since another class or tool was chosen say.
   * @param {import("../core/raster.js").Point} point
   * @param {boolean} inside
   */
  async _click(point, inside) {
    const { editor } = this;
    if (!editor) return;
    const { painting, value } = editor;
    const last = painting.history.done.at(-1);
    const goesOn = this._clicks.length > 0 && this._clickStep === last && this._clickValue === value;
    const clicks = [...(goesOn ? this._clicks : []), /** @type {[number, number, boolean]} */ ([point.x, point.y, inside])];
    if (!clicks.some(([, , on]) => on)) return;
    const found = await saying(() => api.click(this.scene, clicks));
    if (!found || painting !== editor.painting || painting.busy) return;
    if (goesOn && painting.history.done.at(-1) === last) painting.undo();
    painting.fillArea(found.ids, value);
    this._fresh = false;
    this._arrange();
    this._clicks = clicks;
    this._clickValue = value;
    this._clickStep = painting.history.done.at(-1);
  }

  /** @param {number} count */
  async _loadRegions(count) {
    const { editor } = this;
    if (!editor) return;
    const { size } = editor.painting;
    const numbers = await saying(() => api.regions(this.scene, count));
    if (!numbers) return;
    editor.regions = new Superpixels(size, numbers);
    // Only where numbers change matters for the lines: their low bytes differ between neighbours nearly always.
    this.regionLines = pathOf(borderLines(Uint8Array.from(numbers, (number) => (number * 37) & 255), size));
    this._arrange();
  }

  _draftKey() {
    return `label:${this.scene}`;
  }

  async _writeDraft() {
    if (!this.editor || !this.unsaved) return;
    const { ids, marks, size, classes } = this.editor.painting;
    const draft = {
      ...size, ids: Uint8Array.from(ids), marks: marks && Uint8Array.from(marks), classes: [...classes], name: "", tag: this.tag,
    };
    await writeDraft(this._draftKey(), draft).catch(() => undefined);
  }

  /** @param {string} tag */
  async _save(tag = this.tag) {
    const { editor } = this;
    if (!editor) return;
    const { ids, size, classes } = editor.painting;
    const kept = classes.flatMap((entry, place) => (entry.removed ? [] : [place]));
    const places = Uint8Array.from(classes, (_, place) => Math.max(0, kept.indexOf(place)));
    const entries = kept.map((place) => ({ name: classes[place].name, color: classes[place].color }));
    try {
      const saved = await api.saveLabel(this.scene, size, ids.map((id) => places[id]), entries, tag);
      this.tag = saved.tag;
      clearTimeout(this._draftTimer);
      this.unsaved = false;
      await deleteDraft(this._draftKey()).catch(() => undefined);
      const empty = kept.filter((place) => !ids.includes(place)).map((place) => classes[place].name);
      tell("Saved: label.png and classes.json. Next: make the generator.");
      if (empty.length) tell(`No pixel is ${empty.join(" or ")} yet: the generator will not know it.`, "trouble");
      this._showSaved();
      await this.studio.listScenes();
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 412 || tag === "*") {
        tell(error instanceof Error ? error.message : String(error), "trouble");
        return;
      }
      const answer = await ask("Save the label map?", [element("p", {}, `${error.message}.`)], [
        { value: "over", words: "Overwrite", kind: "danger" },
      ]);
      if (answer === "over") await this._save("*");
    }
  }

  _showSaved() {
    const save = need(this.root, ".save", HTMLButtonElement);
    save.textContent = this.unsaved ? "Save label map •" : "Label map saved";
    save.disabled = !this.unsaved;
  }

  _build() {
    need(this.root, ".assist-actions", HTMLElement).append(
      button({ words: "Fill from strokes", label: "Fill from strokes (G)", action: () => void this._assist("fill"), kind: "wide primary" }),
      button({ words: "Find more like this", action: () => void this._assist("alike"), kind: "wide" }),
      button({ words: "Clear strokes", action: () => this.editor?.painting.clearMarks(), kind: "wide" }),
    );
    const following = need(this.root, ".following", HTMLInputElement);
    following.addEventListener("change", () => this._setFollowing(following.checked));
    const size = need(this.root, ".region-size", HTMLInputElement);
    size.addEventListener("change", () => void this._loadRegions(regionCount(size)));
    need(this.root, ".workspace", HTMLElement).addEventListener("tool", (event) => {
      const chosen = /** @type {CustomEvent<string>} */ (event).detail;
      need(this.root, ".region-option", HTMLElement).hidden = chosen !== "regions";
      if (chosen === "regions" && !this.editor?.regions) void this._loadRegions(regionCount(size));
      this._arrange();
    });
    const opacity = need(this.root, ".opacity", HTMLInputElement);
    opacity.value = String(preference("labelOpacity", 50));
    opacity.addEventListener("input", () => {
      remember("labelOpacity", Number(opacity.value));
      this._arrange();
    });
    need(this.root, ".label-actions", HTMLElement).append(
      button({ words: "Save label map", label: "Save (Ctrl+S)", action: () => void this._save(), kind: "save primary wide" }),
    );
    for (const tool of [brush, eraser, fill, polygon, lasso, regions]) {
      need(this.root, ".workspace", HTMLElement).addEventListener("pointerup", () => {
        if (this.editor?.tool === tool && this.following) {
          this._setFollowing(false);
          tell("The fill no longer follows the strokes: it would paint over your corrections.");
        }
      });
    }
  }

  _arrange() {
    const { editor, photograph } = this;
    if (!editor || !photograph) return;
    const [view] = editor.views;
    const shade = ((this._fresh ? FRESH : 1) * Number(need(this.root, ".opacity", HTMLInputElement).value)) / 100;
    view.layers = [
      { image: photograph, opacity: 1, smooth: false },
      { image: editor.image.surface, opacity: shade, smooth: false },
    ];
    if (editor.marksImage) view.layers.push({ image: editor.marksImage.surface, opacity: 1, smooth: false });
    view.outlines = editor.tool === regions && this.regionLines ? [{ path: this.regionLines, color: "#fff9" }] : [];
    editor.invalidate();
  }
}

/**
 * How many regions a slider's position means: its steps are ratios.
 * @param {HTMLInputElement} slider
 */
function regionCount(slider) {
  return Math.round(8000 / 2 ** Number(slider.value));
}
