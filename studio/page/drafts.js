/** Work that is not saved yet, kept in the browser: it survives a reload, and a crash of either side. */

/**
 * @typedef {object} Draft
 * @property {number} width
 * @property {number} height
 * @property {Uint8Array} ids
 * @property {Uint8Array | null} marks
 * @property {{name: string, color: string, removed?: boolean}[]} classes
 * @property {string} name  of the layout, "" for none
 * @property {string} tag  of the file that it began as
 */

const DATABASE = "semia-studio";
const STORE = "drafts";

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} action
 * @returns {Promise<T>}
 */
async function inStore(mode, action) {
  const store = (await database()).transaction(STORE, mode).objectStore(STORE);
  return new Promise((resolve, reject) => {
    const request = action(store);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @param {string} key @returns {Promise<Draft | undefined>} */
export async function readDraft(key) {
  const draft = await inStore("readonly", (store) => store.get(key));
  for (const entry of draft?.classes ?? []) entry.color ??= entry.colour; // as drafts spelt it once
  return draft;
}

/** @param {string} key @param {Draft} draft */
export const writeDraft = (key, draft) => inStore("readwrite", (store) => store.put(draft, key));

/** @param {string} key */
export const deleteDraft = (key) => inStore("readwrite", (store) => store.delete(key));

const PREFERENCES = "semia-studio-preferences";

/**
 * A setting that the browser remembers.
 * @template T
 * @param {string} name
 * @param {T} otherwise
 * @returns {T}
 */
export function preference(name, otherwise) {
  try {
    const all = JSON.parse(localStorage.getItem(PREFERENCES) ?? "{}");
    return typeof all[name] === typeof otherwise ? all[name] : otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {unknown} value */
export function remember(name, value) {
  try {
    const all = JSON.parse(localStorage.getItem(PREFERENCES) ?? "{}");
    localStorage.setItem(PREFERENCES, JSON.stringify({ ...all, [name]: value }));
  } catch {
    // A browser that keeps nothing forgets settings; nothing else is lost.
  }
}
