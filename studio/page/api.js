/** What the page asks of the studio's server. */

import { packFrame, unpackFrame } from "./core/frames.js";

/** @typedef {{name: string, folder: string, labelled: boolean}} SceneSummary */
/** @typedef {{name: string, color: string}} ClassOnDisk */
/** @typedef {{name: string, version: string, width: number, height: number, classes: ClassOnDisk[], card: string}} Model */
/** @typedef {{model: string, version: number, exported_at: string}} OtherGenerator */
/** @typedef {{name: string, tag: string}} LayoutFile */
/** @typedef {{width: number, height: number, ids: Uint8Array, head: any}} LabelMap */
/** @typedef {{state: "joined" | "running" | "ended" | "none", url: string, problem: string}} TritonState */
/**
 * @typedef {object} Job
 * @property {string} scene
 * @property {"running" | "done" | "failed" | "cancelled"} state
 * @property {"prepare" | "export" | "publish"} stage
 * @property {number} share
 * @property {string} detail
 * @property {string} problem
 * @property {number} seconds
 * @property {string[]} lines
 * @property {number} next
 */

/** An answer that is no success: what the server said, and its status; 0 where no server answered. */
export class ServerError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {BodyInit | null} body
 * @param {Record<string, string>} headers
 * @returns {Promise<Response>}
 */
async function ask(method, path, body = null, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, { method, body, headers });
  } catch {
    throw new ServerError(0, "The studio does not answer: it was stopped. Start `semia studio` again.");
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new ServerError(answer.status, content.error);
}

/** @type {(scene: string) => string} */
const sceneAt = (scene) => `/api/scenes/${encodeURIComponent(scene)}`;

/** @type {(scene: string, layout: string) => string} */
const layoutAt = (scene, layout) => `${sceneAt(scene)}/layouts/${encodeURIComponent(layout)}`;

/**
 * @param {Response} answer
 * @returns {Promise<LabelMap>}
 */
async function labelMap(answer) {
  const { head, body } = unpackFrame(await answer.arrayBuffer());
  return { width: head.width, height: head.height, ids: Uint8Array.from(body), head };
}

/** @type {(method: string, path: string, content?: object) => Promise<any>} */
const json = async (method, path, content) =>
  (await ask(method, path, content ? JSON.stringify(content) : null)).json();

export const api = {
  /** @returns {Promise<{triton: TritonState, segmenter: boolean}>} */
  state: () => json("GET", "/api/state"),

  /** @returns {Promise<{triton: TritonState}>} */
  startTriton: () => json("POST", "/api/triton"),

  /** @returns {Promise<SceneSummary[]>} */
  scenes: () => json("GET", "/api/scenes"),

  /**
   * @param {string} name
   * @param {File} file
   * @param {number} maxSide
   * @returns {Promise<SceneSummary & {notes: string[]}>}
   */
  addScene: async (name, file, maxSide) => (await ask("POST", `${sceneAt(name)}?max_side=${maxSide}`, file)).json(),

  /** @param {string} scene @returns {Promise<ImageBitmap>} */
  photograph: async (scene) => createImageBitmap(await (await ask("GET", `${sceneAt(scene)}/photograph`)).blob()),

  /** @param {string} scene */
  label: async (scene) => labelMap(await ask("GET", `${sceneAt(scene)}/label`)),

  /**
   * @param {string} scene
   * @param {import("./core/raster.js").Size} size
   * @param {Uint8Array} ids
   * @param {ClassOnDisk[]} classes
   * @param {string} tag
   * @returns {Promise<{tag: string}>}
   */
  saveLabel: async (scene, size, ids, classes, tag) =>
    (await ask("PUT", `${sceneAt(scene)}/label`, packFrame({ ...size, classes }, ids), { "If-Match": tag })).json(),

  /** @param {string} scene @returns {Promise<Model>} */
  model: (scene) => json("GET", `${sceneAt(scene)}/model`),

  /** @param {string} scene @returns {Promise<OtherGenerator[]>} what its model can be compared with */
  others: (scene) => json("GET", `${sceneAt(scene)}/others`),

  /** @param {string} scene */
  source: async (scene) => labelMap(await ask("GET", `${sceneAt(scene)}/source`)),

  /** @param {string} scene @returns {Promise<LayoutFile[]>} */
  layouts: (scene) => json("GET", `${sceneAt(scene)}/layouts`),

  /** @param {string} scene @param {string} layout */
  layout: async (scene, layout) => labelMap(await ask("GET", layoutAt(scene, layout))),

  /**
   * @param {string} scene
   * @param {string} layout
   * @param {Model} model
   * @param {Uint8Array} ids
   * @param {string} tag
   * @returns {Promise<{tag: string}>}
   */
  saveLayout: async (scene, layout, model, ids, tag) => {
    const frame = packFrame({ width: model.width, height: model.height, card: model.card }, ids);
    return (await ask("PUT", layoutAt(scene, layout), frame, { "If-Match": tag })).json();
  },

  /** @param {string} scene @param {string} layout */
  deleteLayout: (scene, layout) => json("DELETE", layoutAt(scene, layout)),

  /** @param {string} scene @param {string} layout @param {string} name */
  renameLayout: (scene, layout, name) => json("POST", `${layoutAt(scene, layout)}/name`, { name }),

  /**
   * @param {string} scene
   * @param {"fill" | "alike"} way
   * @param {import("./core/raster.js").Size} size
   * @param {Uint8Array} strokes
   */
  assist: async (scene, way, size, strokes) =>
    labelMap(await ask("POST", `${sceneAt(scene)}/${way}`, packFrame({ ...size }, strokes))),

  /**
   * @param {string} scene
   * @param {number} count
   * @returns {Promise<Uint16Array>}
   */
  regions: async (scene, count) => {
    const answer = await ask("GET", `${sceneAt(scene)}/regions?count=${count}`);
    const { body } = unpackFrame(await answer.arrayBuffer());
    return new Uint16Array(Uint8Array.from(body).buffer);
  },

  /**
   * The area of the object that is clicked.
   * @param {string} scene
   * @param {readonly [number, number, boolean][]} clicks
   */
  click: async (scene, clicks) => labelMap(await ask("POST", `${sceneAt(scene)}/click`, JSON.stringify(clicks))),

  /**
   * @param {string} scene
   * @param {import("./core/raster.js").Size} size
   * @param {Uint8Array} ids
   * @returns {Promise<Record<string, number | null>>}
   */
  figures: async (scene, size, ids) =>
    (await ask("POST", `${sceneAt(scene)}/figures`, packFrame({ ...size }, ids))).json(),

  /** @param {number} since @returns {Promise<Job | null>} */
  job: (since) => json("GET", `/api/job?since=${since}`),

  /** @param {string} scene @param {object} request @returns {Promise<Job>} */
  startJob: (scene, request) => json("POST", `${sceneAt(scene)}/job`, request),

  cancelJob: () => json("DELETE", "/api/job"),
};
