/** The Make room: a generator prepared or trained, exported and published, with progress and what was printed. */

import { api } from "../api.js";
import { saying } from "../dialogs.js";
import { button, element, need } from "../dom.js";

const POLL_EVERY = 400;

/** @type {readonly {stage: import("../api.js").Job["stage"], words: string}[]} */
const STAGES = [
  { stage: "prepare", words: "Prepare" },
  { stage: "export", words: "Export and check" },
  { stage: "publish", words: "Publish" },
];

export class MakeRoom {
  /**
   * @param {HTMLElement} root
   * @param {import("../main.js").Studio} studio
   */
  constructor(root, studio) {
    this.root = root;
    this.studio = studio;
    /** @type {import("../api.js").SceneSummary | null} */
    this.scene = null;
    this._next = 0;
    this._shownScene = "";
    need(root, ".steps", HTMLElement).replaceChildren(
      ...STAGES.map(({ stage, words }) => element("li", { "data-stage": stage }, element("span", {}, words))),
    );
    need(root, ".make-actions", HTMLElement).append(
      button({ words: "Make the generator", action: () => void this._start(), kind: "primary start" }),
      button({ words: "Cancel", action: () => void saying(() => api.cancelJob()), kind: "cancel" }),
      button({ words: "Paint with it", action: () => this.studio.go("paint"), kind: "primary paint" }),
    );
    const preset = need(root, ".preset", HTMLSelectElement);
    preset.addEventListener("change", () => {
      need(root, ".minutes-option", HTMLElement).hidden = preset.value === "default";
    });
  }

  /** @param {import("../api.js").SceneSummary | null} scene */
  async show(scene) {
    this.scene = scene;
    this._show(null);
    clearTimeout(this._timer);
    await this._poll();
  }

  hide() {
    clearTimeout(this._timer);
  }

  /** @param {KeyboardEvent} _ */
  key(_) {
    return false;
  }

  async _start() {
    const { scene } = this;
    if (!scene) return;
    const preset = need(this.root, ".preset", HTMLSelectElement).value;
    const minutes = need(this.root, ".minutes", HTMLInputElement).valueAsNumber;
    const percent = need(this.root, ".resize", HTMLInputElement).valueAsNumber;
    const request = {
      preset,
      change_classes: need(this.root, ".change-classes", HTMLInputElement).checked,
      ...(preset !== "default" && minutes ? { minutes } : {}),
      ...(percent && percent !== 100 ? { resize: percent / 100 } : {}),
    };
    this._forget();
    if (await saying(() => api.startJob(scene.name, request))) await this._poll();
  }

  _forget() {
    this._next = 0;
    need(this.root, ".log", HTMLElement).textContent = "";
  }

  async _poll() {
    clearTimeout(this._timer);
    let job = await saying(() => api.job(this._next));
    if (job && job.scene !== this._shownScene) {
      this._shownScene = job.scene;
      this._forget();
      job = await saying(() => api.job(0));
    }
    if (job) {
      this._next = job.next;
      const log = need(this.root, ".log", HTMLElement);
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      log.append(...job.lines.map((line) => `${line}\n`));
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
    this._show(job ?? null);
    if (job?.state === "running") {
      this._wasRunning = true;
      this._timer = setTimeout(() => void this._poll(), POLL_EVERY);
    } else if (this._wasRunning) {
      this._wasRunning = false;
      void this.studio.showServer();
    }
  }

  /** @param {import("../api.js").Job | null} job */
  _show(job) {
    const { scene } = this;
    const running = job?.state === "running";
    const ready = scene?.labelled ?? false;
    need(this.root, ".subject", HTMLElement).textContent = !scene
      ? "Open a scene first."
      : ready
        ? `of the scene ${scene.name}, in the folder ${scene.folder}`
        : `${scene.name} has no label map yet: label it and save first.`;
    need(this.root, ".start", HTMLButtonElement).disabled = !ready || running;
    need(this.root, ".cancel", HTMLButtonElement).hidden = !running;
    need(this.root, ".paint", HTMLButtonElement).hidden = job?.state !== "done" || job.scene !== scene?.name;
    need(this.root, ".progress", HTMLElement).hidden = !job;
    if (!job) return;
    const reached = STAGES.findIndex(({ stage }) => stage === job.stage);
    STAGES.forEach(({ stage }, place) => {
      const step = need(this.root, `[data-stage=${stage}]`, HTMLElement);
      const done = place < reached || job.state === "done";
      step.dataset.state = done ? "done" : place > reached ? "waiting" : job.state;
      step.setAttribute("aria-current", place === reached && running ? "step" : "false");
    });
    const bar = need(this.root, "progress", HTMLProgressElement);
    if (running && job.stage !== "prepare") bar.removeAttribute("value");
    else bar.value = job.state === "done" ? 1 : job.share;
    const seconds = `${Math.round(job.seconds)} s`;
    const outcome = {
      running: `${job.scene}: ${job.detail || job.stage}, ${seconds}`,
      done: `${job.scene} is ready: it took ${seconds}.`,
      failed: job.problem,
      cancelled: "Cancelled; nothing was published.",
    }[job.state];
    const line = need(this.root, ".outcome", HTMLElement);
    line.textContent = outcome;
    line.dataset.state = job.state;
  }
}
