/** Live pictures: the newest label map is sent as soon as the last one is answered; none is queued. */

import { packFrame, unpackFrame } from "./core/frames.js";

/** @typedef {import("./core/raster.js").Size} Size */
/** @typedef {Size & {rgb: Uint8Array, version: string, ms: number, roundTrip: number, changedAt: number}} Picture */
/** @typedef {{kind: string, error: string}} Trouble */

const FIRST_WAIT = 300;
const LONGEST_WAIT = 4000;

export class Live {
  /**
   * @param {string} scene
   * @param {string} card  of the model that the class ids are of
   * @param {(picture: Picture) => void} onpicture
   * @param {(trouble: Trouble | null) => void} ontrouble  told null once all is well again
   * @param {string | null} other  a generator in the repository that is to draw; null: the one that is served
   */
  constructor(scene, card, onpicture, ontrouble, other = null) {
    const query = new URLSearchParams({ card, ...(other === null ? {} : { other }) });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this._address = `${scheme}://${location.host}/live/${encodeURIComponent(scene)}?${query}`;
    this._onpicture = onpicture;
    this._ontrouble = ontrouble;
    this._sequence = 0;
    this._sentAt = 0;
    this._changedAt = 0;
    this._sentChangedAt = 0;
    this._inFlight = false;
    /** Whether the last thing told was trouble. */
    this.troubled = false;
    this._wait = FIRST_WAIT;
    this._closed = false;
    /** @type {{size: Size, ids: Uint8Array} | null} */
    this._newest = null;
    /** @type {{size: Size, ids: Uint8Array} | null} */
    this._last = null; // what was sent and is not answered yet
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
    this._socket = this._connect();
  }

  /** Whether a picture is being waited for. */
  get busy() {
    return this._inFlight || this._newest !== null;
  }

  /**
   * Have a label map's picture made, unless a newer one comes first.
   * @param {Size} size
   * @param {Uint8Array} ids  may change afterwards: what is sent is what it is then
   */
  offer(size, ids) {
    if (!this._newest) this._changedAt = performance.now();
    this._newest = { size, ids };
    this._send();
  }

  close() {
    this._closed = true;
    clearTimeout(this._timer);
    this._socket.close();
  }

  _connect() {
    this._inFlight = false;
    const socket = new WebSocket(this._address);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      this._newest ??= this._last; // what was not answered when the connection broke
      this._send();
    });
    socket.addEventListener("message", (event) => this._receive(event.data));
    socket.addEventListener("close", () => {
      if (this._closed) return;
      this.troubled = true;
      this._ontrouble({ kind: "studio", error: "The studio does not answer. Start `semia studio` again." });
      this._again(() => {
        this._socket = this._connect();
      });
    });
    return socket;
  }

  _send() {
    if (this._inFlight || !this._newest || this._socket.readyState !== WebSocket.OPEN) return;
    const { size, ids } = this._newest;
    this._sequence += 1;
    this._inFlight = true;
    this._sentAt = performance.now();
    this._sentChangedAt = this._changedAt;
    this._last = this._newest;
    this._newest = null;
    this._socket.send(packFrame({ sequence: this._sequence, width: size.width, height: size.height }, ids));
  }

  /** @param {ArrayBuffer | string} data */
  _receive(data) {
    this._inFlight = false;
    if (typeof data === "string") {
      /** @type {Trouble} */
      const trouble = JSON.parse(data);
      this.troubled = true;
      this._ontrouble(trouble);
      if (trouble.kind === "changed" || trouble.kind === "frame") return; // the same again would do no better
      this._again(() => {
        this._newest ??= this._last;
        this._send();
      });
      return;
    }
    this._wait = FIRST_WAIT;
    const { head, body } = unpackFrame(data);
    if (head.sequence === this._sequence) {
      this._last = null;
      const roundTrip = performance.now() - this._sentAt;
      this.troubled = false;
      this._ontrouble(null);
      this._onpicture({ ...head, rgb: body, roundTrip, changedAt: this._sentChangedAt });
    }
    this._send();
  }

  /** @param {() => void} action */
  _again(action) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => {
      if (!this._closed) action();
    }, this._wait);
    this._wait = Math.min(LONGEST_WAIT, 2 * this._wait);
  }
}
