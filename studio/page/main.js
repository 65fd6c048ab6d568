/** The page: which scene, which room, and what stands over all rooms. */

import { api } from "./api.js";
import { ask, saying, showShortcuts, tell } from "./dialogs.js";
import { element, need } from "./dom.js";
import { preference, remember } from "./drafts.js";
import { LabelRoom } from "./rooms/label.js";
import { MakeRoom } from "./rooms/make.js";
import { PaintRoom } from "./rooms/paint.js";

/** @typedef {"label" | "make" | "paint"} RoomName */

/** Where pages of one browser tell each other which scene they show. */
const pages = new BroadcastChannel("semia-studio");

const SIDES = [["480", "480 pixels, quick"], ["640", "640 pixels"], ["960", "960 pixels"], ["4096", "as large as it is"]];

export class Studio {
  constructor() {
    /** @type {import("./api.js").SceneSummary[]} */
    this.scenes = [];
    /** @type {import("./api.js").SceneSummary | null} */
    this.scene = null;
    /** @type {RoomName} */
    this.room = "paint";
    this._warned = ""; // of this scene being open twice
    this.rooms = {
      label: new LabelRoom(furnished("label"), this),
      make: new MakeRoom(furnished("make"), this),
      paint: new PaintRoom(furnished("paint"), this),
    };
    this._build();
  }

  async begin() {
    const [room, name] = location.hash.slice(1).split("/").map(decodeURIComponent);
    await this.listScenes();
    this.scene = this.scenes.find((scene) => scene.name === name) ?? this.scenes[0] ?? null;
    const first = this.scene && !this.scene.labelled ? "label" : "paint";
    await this.go(room === "label" || room === "make" || room === "paint" ? room : first);
    document.body.dataset.ready = "true";
  }

  async listScenes() {
    this.scenes = (await saying(() => api.scenes())) ?? this.scenes;
    this.scene = this.scenes.find((scene) => scene.name === this.scene?.name) ?? this.scene;
    const select = need(document, "#scene", HTMLSelectElement);
    select.replaceChildren(...this.scenes.map(({ name }) => element("option", { value: name }, name)));
    if (this.scene) select.value = this.scene.name;
    select.disabled = !this.scenes.length;
  }

  /** @param {RoomName} room */
  async go(room) {
    this.rooms[this.room].hide();
    this.room = room;
    for (const name of /** @type {RoomName[]} */ (Object.keys(this.rooms))) {
      need(document, `#${name}-room`, HTMLElement).hidden = name !== room;
      const tab = need(document, `#${name}-tab`, HTMLElement);
      tab.setAttribute("aria-selected", String(name === room));
      tab.tabIndex = name === room ? 0 : -1;
    }
    if (this.scene) {
      need(document, "#scene", HTMLSelectElement).value = this.scene.name;
      history.replaceState(null, "", `#${room}/${encodeURIComponent(this.scene.name)}`);
      pages.postMessage({ shows: this.scene.name });
    }
    await this.rooms[room].show(this.scene);
    await this.showServer();
  }

  /** Show how the server is; returns its state, "" where nobody answers. */
  async showServer() {
    const state = await api.state().catch(() => null);
    const badge = need(document, "#server", HTMLElement);
    const words = {
      joined: "Triton joined",
      running: "Triton runs",
      ended: "Triton ended",
      none: "No generator yet",
    };
    badge.dataset.state = state?.triton.state ?? "ended";
    badge.textContent = state ? words[state.triton.state] : "Studio stopped";
    badge.title = state ? `${state.triton.url} ${state.triton.problem}`.trim() : "";
    return state?.triton.state ?? "";
  }

  async _addPhotograph() {
    const file = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/bmp,image/tiff", required: true });
    const name = element("input", { required: true, pattern: "[a-z0-9][a-z0-9_\\-]{0,63}", autocomplete: "off" });
    const side = element("select", {}, ...SIDES.map(([value, words]) => element("option", { value }, words)));
    side.value = "640";
    file.addEventListener("change", () => {
      const stem = file.files?.[0]?.name.replace(/\.[^.]*$/, "").toLowerCase() ?? "";
      name.value = stem.replace(/[^a-z0-9_]+/g, "-").replace(/^[-_]+|[-_]+$/g, "").slice(0, 64);
    });
    const answer = await ask(
      "Add a photograph",
      [
        element("label", { class: "stacked" }, "Photograph", file),
        element("label", { class: "stacked" }, "Name of the scene", name),
        element("label", { class: "stacked" }, "Longer side", side),
        element("p", { class: "quiet" }, "Names: a–z, 0–9, - and _. Larger pictures take longer to make."),
      ],
      [{ value: "add", words: "Add", kind: "primary" }],
    );
    const chosen = file.files?.[0];
    if (answer !== "add" || !chosen) return;
    const added = await saying(() => api.addScene(name.value, chosen, Number(side.value)));
    if (!added) return;
    this.scene = added;
    await this.listScenes();
    await this.go("label");
    for (const note of added.notes) tell(note);
    tell(`${added.name} is in ${added.folder}. Name its classes, then draw a stroke on each.`);
  }

  _build() {
    const select = need(document, "#scene", HTMLSelectElement);
    select.addEventListener("change", () => {
      this.scene = this.scenes.find(({ name }) => name === select.value) ?? null;
      void this.go(this.room);
    });
    need(document, "#add-photograph", HTMLElement).addEventListener("click", () => void this._addPhotograph());
    need(document, "#help", HTMLElement).addEventListener("click", () => void showShortcuts());
    for (const name of /** @type {RoomName[]} */ (Object.keys(this.rooms))) {
      need(document, `#${name}-tab`, HTMLElement).addEventListener("click", () => void this.go(name));
    }
    need(document, "[role=tablist]", HTMLElement).addEventListener("keydown", (event) => {
      const names = /** @type {RoomName[]} */ (Object.keys(this.rooms));
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = names[(names.indexOf(this.room) + step + names.length) % names.length];
      void this.go(next);
      need(document, `#${next}-tab`, HTMLElement).focus();
    });
    const theme = preference("theme", "");
    if (theme) document.documentElement.dataset.theme = theme;
    need(document, "#theme", HTMLElement).addEventListener("click", () => {
      const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
        (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
      document.documentElement.dataset.theme = dark ? "light" : "dark";
      remember("theme", document.documentElement.dataset.theme);
    });
    pages.addEventListener("message", ({ data }) => {
      if (data.shows === this.scene?.name) pages.postMessage({ alsoShows: data.shows });
      if (data.alsoShows === this.scene?.name && this._warned !== data.alsoShows) {
        this._warned = data.alsoShows;
        tell(`${data.alsoShows} is open in another tab, too: save in one before you go on in the other.`);
      }
    });
    document.addEventListener("keydown", (event) => {
      document.documentElement.dataset.input = "keyboard";
      this._key(event);
    });
    document.addEventListener("pointerdown", () => {
      document.documentElement.dataset.input = "pointer";
    });
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    if (document.querySelector("dialog[open]") || event.defaultPrevented) return;
    const { target } = event;
    const typing =
      target instanceof HTMLSelectElement ||
      (target instanceof HTMLInputElement && !["radio", "checkbox", "range"].includes(target.type));
    const saves = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    if (typing && !saves) return;
    if (event.key === "?") {
      void showShortcuts();
      event.preventDefault();
    } else if (this.rooms[this.room].key(event)) {
      event.preventDefault();
    }
  }
}

/**
 * A room with its furniture: the workspace, with what the room has beside it.
 * @param {RoomName} name
 * @returns {HTMLElement}
 */
function furnished(name) {
  const room = need(document, `#${name}-room`, HTMLElement);
  const own = need(room, "template", HTMLTemplateElement).content.cloneNode(true);
  if (name === "make") {
    room.append(own);
    return room;
  }
  const workspace = need(document, "#workspace-template", HTMLTemplateElement).content.cloneNode(true);
  room.append(workspace);
  const parts = /** @type {DocumentFragment} */ (own);
  need(room, ".panel", HTMLElement).append(need(parts, ".panel-parts", HTMLElement));
  need(room, ".room-options", HTMLElement).append(need(parts, ".option-parts", HTMLElement));
  if (name === "label") need(room, ".view.picture", HTMLElement).remove();
  return room;
}

const studio = new Studio();
await studio.begin();
