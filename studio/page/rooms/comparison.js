/** What the picture is compared with: one that is held, or another generator's of the same layout, asked with it. */

import { api } from "../api.js";
import { saying, tell } from "../dialogs.js";
import { button, element, need } from "../dom.js";
import { PictureImage } from "../editor/view.js";
import { Live } from "../live.js";

/** @typedef {import("../api.js").Model} Model */
/** @typedef {import("../api.js").OtherGenerator} OtherGenerator */
/** @typedef {import("../core/raster.js").Size} Size */
/** @typedef {import("../live.js").Picture} Picture */

const [NOTHING, HELD] = ["", "held"];

/** Troubles of the server's, which the room says already; the comparison goes on when they are over. */
const SHARED_TROUBLES = ["studio", "unavailable", "late", "changed"];

export class Comparison {
  /**
   * @param {HTMLElement} root  the room
   * @param {{onchange: () => void, onpicture: () => void, onwanted: () => void}} room  told when there is something else
   *   to compare with, when that has a new picture, and when another generator is to be asked
   */
  constructor(root, room) {
    this._room = room;
    this._scene = "";
    /** @type {Model | null} */
    this._model = null;
    /** @type {PictureImage | null} */
    this._held = null;
    /** @type {PictureImage | null} */
    this._theirs = null;
    /** @type {Live | null} */
    this._live = null;
    /** @type {OtherGenerator[]} */
    this._others = [];
    this._choice = need(root, ".other", HTMLSelectElement);
    this._choice.addEventListener("change", () => this._choose(this._choice.value));
    this._option = need(root, ".wipe-option", HTMLElement);
    this._place = need(root, ".wipe", HTMLInputElement);
    this._place.addEventListener("input", room.onchange);
  }

  /**
   * Where the wipe stands, from the left, and what is left of it; null where nothing is compared.
   * @returns {{image: OffscreenCanvas, share: number} | null}
   */
  get layer() {
    const picture = this._choice.value === HELD ? this._held : this._theirs;
    return picture && { image: picture.surface, share: Number(this._place.value) / 100 };
  }

  /**
   * Begin with what a scene's model can be compared with.
   * @param {string} scene
   * @param {Model} model
   */
  async open(scene, model) {
    const chosen = this._choice.value;
    this.close();
    if (this._held && (this._held.size.width !== model.width || this._held.size.height !== model.height)) {
      this._held = null;
    }
    this._scene = scene;
    this._model = model;
    const others = (await saying(() => api.others(scene))) ?? [];
    if (this._model !== model) return; // another scene has been opened meanwhile
    this._others = others;
    this._list(chosen);
  }

  close() {
    this._live?.close();
    this._live = null;
    this._theirs = null;
  }

  /**
   * Have the other generator, if there is one, draw a layout too.
   * @param {Size} size
   * @param {Uint8Array} ids
   */
  offer(size, ids) {
    this._live?.offer(size, ids);
  }

  /**
   * Keep a picture to compare with, such as another layout's.
   * @param {Picture} picture
   */
  hold(picture) {
    this._held = new PictureImage(picture);
    this._held.update(picture.rgb);
    this._list(HELD);
  }

  /** @param {string} chosen  which choice to keep, if it is still there */
  _list(chosen) {
    const choices = [
      { value: NOTHING, words: "nothing" },
      ...(this._held ? [{ value: HELD, words: "the picture that is held" }] : []),
      ...this._others.map((other) => ({ value: `${other.model}/${other.version}`, words: this._words(other) })),
    ];
    this._choice.replaceChildren(...choices.map(({ value, words }) => element("option", { value }, words)));
    this._choose(choices.some(({ value }) => value === chosen) ? chosen : NOTHING);
  }

  /** @param {OtherGenerator} other */
  _words({ model, version }) {
    return model === this._model?.name ? `version ${version}` : `${model}, version ${version}`;
  }

  /** @param {string} choice */
  _choose(choice) {
    this._choice.value = choice;
    this.close();
    const model = this._model;
    if (model && choice !== NOTHING && choice !== HELD) {
      this._live = new Live(
        this._scene,
        model.card,
        (picture) => this._show(picture),
        (trouble) => {
          if (!trouble || SHARED_TROUBLES.includes(trouble.kind)) return;
          tell(trouble.error, "trouble");
          this._choose(NOTHING);
        },
        choice,
      );
      this._room.onwanted();
    }
    this._option.hidden = choice === NOTHING;
    const left = this._choice.selectedOptions[0]?.textContent ?? "";
    need(this._option, ".wipe-left", HTMLElement).textContent = choice === HELD ? "held" : left;
    this._room.onchange();
  }

  /** @param {Picture} picture */
  _show(picture) {
    const first = !this._theirs;
    this._theirs ??= new PictureImage(picture);
    this._theirs.update(picture.rgb);
    if (first) this._room.onchange();
    else this._room.onpicture();
  }

  /**
   * The buttons beside the choice.
   * @param {() => Picture | null} picture  the one that is shown
   */
  buttons(picture) {
    const hold = () => {
      const shown = picture();
      if (shown) this.hold(shown);
    };
    return [button({ words: "Hold this picture", action: hold })];
  }
}
