/** The layouts of a scene, the one that is open among them: files in cond/, and the draft of what is not saved. */

import { ServerError, api } from "../api.js";
import { Painting } from "../core/painting.js";
import { ask, askName, saying, tell } from "../dialogs.js";
import { button, element, need } from "../dom.js";
import { deleteDraft, readDraft, writeDraft } from "../drafts.js";

/** @typedef {import("../api.js").Model} Model */
/** @typedef {import("../core/raster.js").Size} Size */

const DRAFT_DELAY = 200;
const NAME_PATTERN = "[\\p{L}\\p{N}_][\\p{L}\\p{N}_ .\\-]*";
const NAME_HINT = "Letters, digits, spaces, - _ and .";

/** What stands for the layout of the photograph in the list. */
const SOURCE = "";

export class Layouts {
  /**
   * @param {HTMLElement} root  the room
   * @param {() => Painting | null} painting  what is painted on
   * @param {(painting: Painting) => void} onopen  told of another layout to paint on
   */
  constructor(root, painting, onopen) {
    this.root = root;
    this._painting = painting;
    this._onopen = onopen;
    this.scene = "";
    /** @type {Model | null} */
    this.model = null;
    this.name = SOURCE; // of the layout that is open
    this.tag = "";
    this.unsaved = false;
    /** @type {Uint8Array | null} the layout as it was saved or opened; null where only a draft is known */
    this._clean = null;
    /** @type {import("../api.js").LayoutFile[]} */
    this._files = [];
    this._shown = "";
    need(root, ".layout-actions", HTMLElement).append(
      button({ words: "Save", label: "Save (Ctrl+S)", action: () => void this.save(), kind: "primary" }),
      button({ words: "Save as…", action: () => void this._saveAs() }),
      button({ words: "Rename…", action: () => void this._rename(), kind: "of-layout" }),
      button({ words: "Delete…", action: () => void this._delete(), kind: "of-layout" }),
    );
  }

  /**
   * Begin with what was not saved of a scene's layouts, else with the photograph's own.
   * @param {string} scene
   * @param {Model} model
   * @param {Uint8Array} ids  the photograph's own
   * @returns {Promise<Painting>}
   */
  async begin(scene, model, ids) {
    this.scene = scene;
    this.model = model;
    this.name = SOURCE;
    this.tag = "";
    this.unsaved = false;
    this._clean = Uint8Array.from(ids);
    const painting = new Painting({ width: model.width, height: model.height }, Uint8Array.from(ids), model.classes);
    const draft = await readDraft(this._draftKey()).catch(() => undefined);
    const restored = draft && draft.width === model.width && draft.height === model.height && byColor(draft, model);
    if (restored) {
      painting.ids.set(restored);
      this.name = draft.name;
      this.tag = draft.tag;
      this.unsaved = true;
      this._clean = null;
    } else if (draft) {
      tell("An unsaved layout is for another canvas or other classes; it stays where it is until you save here.");
    }
    return painting;
  }

  /** There is no layout until `begin`. */
  end() {
    this.model = null;
  }

  /** A step was made, taken back or made again; it may have changed the selection alone. */
  changed() {
    const [painting, clean] = [this._painting(), this._clean];
    this.unsaved = !painting || !clean || painting.ids.some((id, place) => id !== clean[place]);
    clearTimeout(this._draftTimer);
    this._draftTimer = setTimeout(() => void this._keepDraft(), DRAFT_DELAY);
    this._show();
  }

  async _keepDraft() {
    if (this.unsaved) await this.writeDraft();
    else if (this.model) await deleteDraft(this._draftKey()).catch(() => undefined);
  }

  _draftKey() {
    return `paint:${this.scene}`;
  }

  async writeDraft() {
    clearTimeout(this._draftTimer);
    const painting = this._painting();
    if (!painting || !this.model || !this.unsaved) return;
    const { ids, size, classes } = painting;
    const draft = { ...size, ids: Uint8Array.from(ids), marks: null, classes: [...classes], name: this.name, tag: this.tag };
    await writeDraft(this._draftKey(), draft).catch(() => undefined);
  }

  /** What is painted is in its file. */
  async _saved() {
    const painting = this._painting();
    clearTimeout(this._draftTimer);
    this.unsaved = false;
    this._clean = painting && Uint8Array.from(painting.ids);
    await deleteDraft(this._draftKey()).catch(() => undefined);
    await this.list();
  }

  async list() {
    this._files = (await saying(() => api.layouts(this.scene))) ?? [];
    this._show();
  }

  _show() {
    const list = need(this.root, ".layouts", HTMLElement);
    const names = [SOURCE, ...this._files.map(({ name }) => name)];
    if (!names.includes(this.name)) names.push(this.name);
    const state = JSON.stringify([names, this.name, this.unsaved]);
    if (state === this._shown && list.childElementCount) return;
    this._shown = state;
    list.replaceChildren(
      ...names.map((name) => {
        const current = name === this.name;
        const words = (name || "the photograph's own") + (current && this.unsaved ? " •" : "");
        const row = button({ words, action: () => void this._open(name), kind: current ? "layout current" : "layout" });
        row.setAttribute("aria-current", String(current));
        return row;
      }),
    );
    for (const each of this.root.querySelectorAll("button.of-layout")) {
      /** @type {HTMLButtonElement} */ (each).disabled = this.name === SOURCE;
    }
  }

  /** @param {string} name */
  async _open(name) {
    if (!this.model || !this._painting()) return;
    if (this.unsaved) {
      const answer = await ask(
        "Keep what you painted?",
        [element("p", {}, `${this.name || "This layout"} has changes that are not saved.`)],
        [{ value: "save", words: "Save", kind: "primary" }, { value: "drop", words: "Discard" }],
      );
      if (!answer || (answer === "save" && !(await this.save()))) return;
    }
    await saying(async () => {
      const { ids, head } = await (name ? api.layout(this.scene, name) : api.source(this.scene));
      const { width, height, classes } = /** @type {Model} */ (this.model);
      this._onopen(new Painting({ width, height }, ids, classes));
      this.name = name;
      this.tag = head.tag ?? "";
      await this._saved();
    });
  }

  /** @returns {Promise<boolean>} whether it was saved */
  async save() {
    return this.name === SOURCE ? this._saveAs() : this._write(this.name, this.tag);
  }

  async _saveAs() {
    const name = await askName("Save the layout", "Save", this.name || "layout 1", NAME_PATTERN, NAME_HINT);
    return name ? this._write(name, "") : false;
  }

  /**
   * @param {string} name
   * @param {string} tag
   * @returns {Promise<boolean>}
   */
  async _write(name, tag) {
    const painting = this._painting();
    if (!this.model || !painting) return false;
    try {
      const saved = await api.saveLayout(this.scene, name, this.model, painting.ids, tag);
      this.name = name;
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
    const name = await askName("Rename the layout", "Rename", this.name, NAME_PATTERN, NAME_HINT);
    if (!name || name === this.name) return;
    await saying(async () => {
      await api.renameLayout(this.scene, this.name, name);
      this.name = name;
      await this.writeDraft();
      await this.list();
    });
  }

  async _delete() {
    const question = element("p", {}, `cond/${this.name}.png is deleted from the disk.`);
    if ((await ask(`Delete ${this.name}?`, [question], [{ value: "yes", words: "Delete", kind: "danger" }])) !== "yes") return;
    await saying(async () => {
      await api.deleteLayout(this.scene, this.name);
      this.name = SOURCE;
      this.tag = "";
      this.unsaved = true; // it is in no file any more
      this._clean = null;
      await this.writeDraft();
      await this.list();
    });
  }
}

/**
 * Class ids by a model's classes, matched by color; null if a color is not among them.
 * @param {{ids: Uint8Array, classes: {color: string}[]}} from
 * @param {Model} model
 * @returns {Uint8Array | null}
 */
export function byColor({ ids, classes }, model) {
  const places = classes.map(({ color }) => model.classes.findIndex((entry) => entry.color === color));
  return ids.some((id) => !(places[id] >= 0)) ? null : ids.map((id) => places[id]);
}
