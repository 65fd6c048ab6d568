/** The list of classes: which is painted with, which are locked; in the Label room also their names. */

import { isLight, nextColor } from "../core/colors.js";
import { MAX_CLASSES } from "../core/painting.js";
import { button, element, icon } from "../dom.js";

/** @typedef {import("../core/painting.js").ClassEntry} ClassEntry */
/** @typedef {{row: HTMLElement, radio: HTMLInputElement, swatch: HTMLElement, name: HTMLElement, lock: HTMLButtonElement}} Row */

let lists = 0;

export class ClassList {
  /**
   * @param {HTMLElement} root
   * @param {import("./editor.js").Editor} editor
   * @param {boolean} editable
   */
  constructor(root, editor, editable) {
    this.root = root;
    this.editor = editor;
    this.editable = editable;
    lists += 1;
    this._group = `classes-${lists}`;
    /** @type {Map<number, Row>} the rows that are shown, by class */
    this._rows = new Map();
  }

  /** Show the classes as they are now; rows stay where they are, so that nothing loses the focus. */
  show() {
    const { classes } = this.editor.painting;
    const visible = classes.flatMap((entry, place) => (entry.removed ? [] : [place]));
    if (visible.join() !== [...this._rows.keys()].join() || !this.root.childElementCount) {
      this._rows = new Map(visible.map((place) => [place, this._newRow(place)]));
      this.root.replaceChildren(...[...this._rows.values()].map(({ row }) => row));
      if (this.editable && classes.length < MAX_CLASSES) {
        this.root.append(
          button({ icon: "plus", words: "Add a class", action: () => this._add(), kind: "subtle wide" }),
        );
      }
    }
    visible.forEach((place, number) => this._update(place, number));
  }

  /** @param {number} place @returns {Row} */
  _newRow(place) {
    const { editor, editable } = this;
    const id = `${this._group}-${place}`;
    const radio = element("input", { type: "radio", name: this._group, id });
    radio.addEventListener("change", () => editor.choose(place));
    const swatch = element("label", { class: "swatch", for: id }, element("kbd"));
    const name = editable
      ? element("input", {
          class: "name", maxlength: "40", "aria-label": "Name of the class", autocomplete: "off", id: `${id}-name`,
        })
      : element("label", { class: "name", for: id });
    if (name instanceof HTMLInputElement) {
      name.addEventListener("change", () => this._rename(place, name.value.trim()));
      name.addEventListener("focus", () => editor.choose(place));
    }
    const lock = button({ action: () => this._toggleLock(place), kind: "quiet-icon lock" });
    const row = element("div", { class: "class" }, radio, swatch, name, lock);
    if (editable) {
      row.append(
        button({ icon: "trash", label: "Remove the class", action: () => this._remove(place), kind: "quiet-icon" }),
      );
    }
    return { row, radio, swatch, name, lock };
  }

  /**
   * @param {number} place  of the class
   * @param {number} number  of its row, from 0
   */
  _update(place, number) {
    const { painting, value } = this.editor;
    const entry = painting.classes[place];
    const { row, radio, swatch, name, lock } = /** @type {Row} */ (this._rows.get(place));
    row.classList.toggle("chosen", value === place);
    radio.checked = value === place;
    radio.setAttribute("aria-label", entry.name);
    swatch.style.setProperty("--color", entry.color);
    swatch.classList.toggle("light", isLight(entry.color));
    swatch.firstElementChild?.replaceChildren(number < 9 ? String(number + 1) : "");
    if (!(name instanceof HTMLInputElement)) name.textContent = entry.name;
    else if (name !== document.activeElement) name.value = entry.name;
    const locked = Boolean(painting.locked[place]);
    if (lock.getAttribute("aria-pressed") !== String(locked)) lock.replaceChildren(icon(locked ? "locked" : "unlocked"));
    lock.setAttribute("aria-pressed", String(locked));
    lock.title = locked ? `Unlock ${entry.name}` : `Lock ${entry.name}: nothing is painted over it`;
    lock.setAttribute("aria-label", `Lock ${entry.name}`);
  }

  /** @param {number} place */
  _toggleLock(place) {
    const { locked } = this.editor.painting;
    locked[place] = locked[place] ? 0 : 1;
    this.show();
  }

  _add() {
    const { painting } = this.editor;
    const colors = painting.classes.map(({ color }) => color);
    const names = new Set(painting.classes.map(({ name }) => name));
    let number = painting.classes.length + 1;
    while (names.has(`class ${number}`)) number += 1;
    painting.setClasses([...painting.classes, { name: `class ${number}`, color: nextColor(colors) }]);
    this.editor.choose(painting.classes.length - 1);
    const field = document.getElementById(`${this._group}-${painting.classes.length - 1}-name`);
    if (field instanceof HTMLInputElement) field.select();
  }

  /** @param {number} place @param {string} name */
  _rename(place, name) {
    const { painting } = this.editor;
    const taken = painting.classes.some((entry, other) => other !== place && !entry.removed && entry.name === name);
    if (name && !taken && name !== painting.classes[place].name) {
      painting.setClasses(painting.classes.map((entry, other) => (other === place ? { ...entry, name } : entry)));
    }
    this.show();
  }

  /** @param {number} place */
  _remove(place) {
    const { painting } = this.editor;
    painting.removeClass(place);
    if (this.editor.value === place) this.editor.choose(painting.classes.findIndex((entry) => !entry.removed));
  }
}
