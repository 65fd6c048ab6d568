/** The selection in numbers, and what can be done with it: everything that dragging does, without dragging. */

import { button, element } from "../dom.js";

/** @typedef {import("../core/region.js").Placement} Placement */
/** @typedef {import("../core/painting.js").Selection} Selection */

/** @type {readonly {name: string, label: string, step: string, read: (selection: Selection) => number, write: (selection: Selection, value: number) => Partial<Placement>}[]} */
const FIELDS = [
  { name: "x", label: "X", step: "1", read: ({ placement }) => placement.x, write: (_, x) => ({ x }) },
  { name: "y", label: "Y", step: "1", read: ({ placement }) => placement.y, write: (_, y) => ({ y }) },
  { name: "angle", label: "Turn °", step: "5", read: ({ placement }) => placement.angle, write: (_, angle) => ({ angle }) },
  {
    name: "width", label: "Width %", step: "5", read: ({ placement }) => 100 * Math.abs(placement.scaleX),
    write: ({ placement }, value) => ({ scaleX: (Math.sign(placement.scaleX) * value) / 100 }),
  },
  {
    name: "height", label: "Height %", step: "5", read: ({ placement }) => 100 * Math.abs(placement.scaleY),
    write: ({ placement }, value) => ({ scaleY: (Math.sign(placement.scaleY) * value) / 100 }),
  },
];

export class SelectionPanel {
  /**
   * @param {HTMLElement} root
   * @param {import("./editor.js").Editor} editor
   */
  constructor(root, editor) {
    this.root = root;
    this.fields = FIELDS.map((field) => {
      const input = element("input", { type: "number", step: field.step });
      input.addEventListener("change", () => {
        const { selection } = editor.painting;
        if (selection && Number.isFinite(input.valueAsNumber)) {
          editor.painting.move(field.write(selection, input.valueAsNumber), `field-${field.name}`);
        }
      });
      return { field, input };
    });
    const { painting } = editor;
    /** @type {(name: string, words: string, action: (painting: import("../core/painting.js").Painting) => void) => HTMLButtonElement} */
    const act = (name, label, action) => button({ icon: name, label, action: () => action(editor.painting) });
    root.append(
      element("div", { class: "fields" }, ...this.fields.map(({ field, input }) => element("label", {}, field.label, input))),
      element(
        "div",
        { class: "row" },
        act("mirror-across", "Mirror left to right (Shift+H)", (each) => each.flip("across")),
        act("mirror-down", "Mirror top to bottom (Shift+V)", (each) => each.flip("down")),
        act("duplicate", "Duplicate (Ctrl+D)", (each) => each.duplicate()),
        act("fill", "Give it the chosen class", (each) => each.fillSelection(editor.value)),
        act("trash", "Delete (Delete)", (each) => each.removeSelection()),
        act("close", "Deselect (Escape)", (each) => each.deselect()),
      ),
    );
    this.show(painting.selection);
  }

  /** @param {Selection | null} selection */
  show(selection) {
    const section = this.root.closest("section");
    if (section) section.hidden = !selection;
    if (!selection) return;
    for (const { field, input } of this.fields) {
      const text = String(Math.round(10 * field.read(selection)) / 10);
      if (input.value !== text) input.value = text;
    }
  }
}
