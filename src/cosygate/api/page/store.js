// What an unfinished upload needs to continue after a reload, kept in IndexedDB: the file itself (IndexedDB stores
// File objects by structured clone), its session_id and its options. Which chunks have arrived is not kept: the
// server knows.

const NAME = "cosygate";
const STORE = "uploads";

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class UploadStore {
  #db;

  /** A store that keeps things, or (where the browser offers none, as in some private windows) one that does not. */
  static async open() {
    const store = new UploadStore();
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("owner", "owner");
      store.#db = await settled(request);
    } catch {
      store.#db = null;
    }
    return store;
  }

  /** Keeps a record. Says what is kept: "file", "name" (no room for the file: it must be chosen again after a
   * reload) or "nothing". */
  async put(record) {
    if (!this.#db) return "nothing";
    try {
      await this.#write((uploads) => uploads.put(record));
      return record.file ? "file" : "name";
    } catch {
      try {
        await this.#write((uploads) => uploads.put({ ...record, file: null }));
        return "name";
      } catch {
        return "nothing";
      }
    }
  }

  async delete(id) {
    if (this.#db) await this.#write((uploads) => uploads.delete(id));
  }

  /** The records of one owner, oldest first. */
  async all(owner) {
    if (!this.#db) return [];
    const uploads = this.#db.transaction(STORE).objectStore(STORE);
    const found = await settled(uploads.index("owner").getAll(owner));
    return found.sort((a, b) => a.addedAt - b.addedAt);
  }

  /** One transaction; resolves when it is complete, not merely when its request succeeded. */
  #write(work) {
    return new Promise((resolve, reject) => {
      const transaction = this.#db.transaction(STORE, "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error);
      work(transaction.objectStore(STORE));
    });
  }
}
