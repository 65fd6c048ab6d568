/** Questions and news: dialogs, and lines that come and go. */

import { button, element, need } from "./dom.js";

const SHOWN_FOR = 6000;

/**
 * Show a line for a while; screen readers say it.
 * @param {string} words
 * @param {"news" | "trouble"} kind
 */
export function tell(words, kind = "news") {
  const line = element("p", { class: `toast ${kind}` }, words);
  need(document, "#toasts", HTMLElement).append(line);
  setTimeout(() => line.remove(), kind === "trouble" ? 2 * SHOWN_FOR : SHOWN_FOR);
}

/**
 * Do something, and say what goes wrong.
 * @template T
 * @param {() => Promise<T>} action
 * @returns {Promise<T | undefined>}
 */
export async function saying(action) {
  try {
    return await action();
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error), "trouble");
    return undefined;
  }
}

/**
 * Ask something in a dialog; what is pressed is the answer, "" for nothing.
 * @param {string} title
 * @param {(Node | string)[]} content
 * @param {{value: string, words: string, kind?: string}[]} answers  the first is Enter's
 * @returns {Promise<string>}
 */
export function ask(title, content, answers) {
  const dialog = element("dialog", { "aria-labelledby": "dialog-title" });
  const form = element("form", { method: "dialog" });
  const buttons = answers.map(({ value, words, kind }) =>
    element("button", { value, class: kind ?? "" }, words),
  );
  const cancel = button({ words: answers.length ? "Cancel" : "Close", action: () => dialog.close("") });
  form.append(
    element("h2", { id: "dialog-title" }, title),
    ...content,
    element("div", { class: "answers" }, ...buttons, cancel),
  );
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}

/**
 * Ask for a name.
 * @param {string} title
 * @param {string} words  what the button says
 * @param {string} value
 * @param {string} pattern
 * @param {string} hint
 * @returns {Promise<string>} "" if none was given
 */
export async function askName(title, words, value, pattern = "", hint = "") {
  const input = element("input", { value, required: true, maxlength: "64", autofocus: true, autocomplete: "off" });
  if (pattern) input.pattern = pattern;
  if (hint) input.title = hint;
  const label = element("label", { class: "stacked" }, "Name", input);
  const content = hint ? [label, element("p", { class: "quiet" }, hint)] : [label];
  input.addEventListener("focus", () => input.select());
  const answer = await ask(title, content, [{ value: "yes", words, kind: "primary" }]);
  return answer === "yes" ? input.value.trim() : "";
}

/** @type {readonly [string, readonly (readonly [string, string])[]][]} */
const SHORTCUTS = [
  [
    "Tools",
    [
      ["B", "Brush"], ["E", "Eraser: the surroundings close over it"], ["F", "Fill an area"], ["P", "Polygon"],
      ["L", "Lasso"], ["I", "Pick a class"], ["V", "Select a region"], ["S", "Select with a lasso"],
      ["M", "Strokes to fill from (Label)"], ["W", "Wipe strokes (Label)"], ["R", "Whole regions (Label)"], ["C", "Click an object (Label, with --segmenter)"],
      ["[ ]", "Smaller, larger brush"], ["1–9", "Class"],
    ],
  ],
  [
    "Canvas",
    [
      ["Arrows", "Move the cursor; with Shift by 10"], ["Enter", "Use the tool at the cursor"],
      ["Escape", "Let go: of a stroke, an outline, the selection"], ["+ − 0", "Zoom in, out, fit"],
      ["Space + drag", "Pan; so do the middle button and two fingers"], ["Wheel", "Zoom at the pointer"],
    ],
  ],
  [
    "Selection",
    [
      ["Arrows", "Move; with Shift by 10"], ["Alt + arrows", "Scale"], ["< >", "Turn"], ["Shift + H / V", "Mirror"],
      ["Ctrl + D", "Duplicate"], ["Delete", "Delete"],
    ],
  ],
  [
    "Everywhere",
    [["Ctrl + Z", "Undo"], ["Ctrl + Shift + Z", "Redo"], ["Ctrl + S", "Save"], ["?", "This sheet"]],
  ],
];

/** Show what the keys do. */
export async function showShortcuts() {
  const groups = SHORTCUTS.map(([title, keys]) =>
    element(
      "section",
      {},
      element("h3", {}, title),
      element("dl", {}, ...keys.flatMap(([key, words]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, words)])),
    ),
  );
  await ask("Keyboard", [element("div", { class: "shortcuts" }, ...groups)], []);
}

