// The uploads of this browser: which one is being sent, which wait, are paused or failed. One at a time is sent; what
// is kept in IndexedDB lets them continue after a reload.

import { chunkBytes, fingerprint, send } from "/page/upload.js";

const SMALLEST_CHUNK = 1024;

/** One row. `state`: waiting | sending | paused | failed | lost (the file must be chosen again). */
class Item {
  sent = 0;
  problem = null; // why it failed, or what it is waiting out
  kept = "file"; // what IndexedDB has of it: file | name | nothing
  keeping = Promise.resolve(); // settles when the latest write is done
  stop = null; // aborts the sending
  fresh = false; // nothing of it was sent yet

  constructor(record, state) {
    this.record = record;
    this.state = state;
  }
}

/** Events: `change` (any item changed), `finished` with detail {taskId, name}. */
export class Uploads extends EventTarget {
  items = new Map();

  constructor(api, store) {
    super();
    this.api = api;
    this.store = store;
    this.owner = null;
  }

  /** Takes up what this page, before signing in again, or an earlier one left for this owner. */
  async restore(owner) {
    this.halt();
    for (const [id, item] of this.items) if (item.record.owner !== owner) this.items.delete(id);
    this.owner = owner;
    for (const record of await this.store.all(owner)) {
      if (this.items.has(record.id)) continue;
      const state = !record.file ? "lost" : record.paused ? "paused" : "waiting";
      this.items.set(record.id, new Item(record, state));
    }
    this.#changed();
    this.#next();
  }

  async add(files, options) {
    for (const file of files) {
      const chunk = chunkBytes(file.size);
      const record = {
        id: newId(), owner: this.owner, name: file.name, size: file.size, type: file.type, file, chunk, options,
        paused: false, addedAt: Date.now() + this.items.size / 1000, print: await fingerprint(file, chunk).catch(() => ""),
      };
      const item = new Item(record, "waiting");
      item.fresh = true;
      this.items.set(record.id, item);
      this.#next(); // sending need not wait for the browser's copy of a large file
      await this.#keep(item, {});
    }
  }

  async pause(id) {
    const item = this.items.get(id);
    item.state = "paused";
    item.problem = null;
    item.stop?.abort();
    this.#changed();
    await this.#keep(item, { paused: true });
    this.#next();
  }

  async resume(id) {
    const item = this.items.get(id);
    item.state = item.record.file ? "waiting" : "lost";
    item.problem = null;
    this.#changed();
    await this.#keep(item, { paused: false });
    this.#next();
  }

  /** The file of a lost item, chosen again. Says whether it is the same one. */
  async provide(id, file) {
    const item = this.items.get(id);
    if ((await fingerprint(file, item.record.chunk)) !== item.record.print) return false;
    await this.#keep(item, { file, paused: false });
    item.state = "waiting";
    item.problem = null;
    this.#changed();
    this.#next();
    return true;
  }

  /** Gives an upload up, here and on the server. */
  async remove(id) {
    const item = this.items.get(id);
    this.items.delete(id);
    item.stop?.abort();
    await this.#forget(item);
    this.#changed();
    this.#next();
    try {
      await this.api.call(`/v1/audio/${id}`, { method: "DELETE" });
    } catch (problem) {
      if (problem.status !== 404) throw problem; // 404: nothing had arrived yet
    }
  }

  /** Stops sending without forgetting anything: the next `restore` continues. */
  halt() {
    for (const item of this.items.values()) {
      if (item.state === "sending") item.state = "waiting";
      item.stop?.abort();
    }
    this.owner = null;
  }

  async #keep(item, change) {
    item.record = { ...item.record, ...change };
    item.keeping = item.keeping.then(() => this.store.put(item.record)).then((kept) => { item.kept = kept; });
    await item.keeping;
    this.#changed();
  }

  /** After the last write, or that one would bring the record back. */
  async #forget(item) {
    await item.keeping;
    await this.store.delete(item.record.id);
  }

  /** Starts the oldest waiting upload, unless one is being sent. */
  #next() {
    const items = [...this.items.values()];
    if (!this.owner || items.some((item) => item.stop)) return;
    const item = items.find(({ state }) => state === "waiting");
    if (item) this.#send(item);
  }

  async #send(item) {
    item.stop = new AbortController();
    item.state = "sending";
    this.#changed();
    const { fresh } = item;
    item.fresh = false;
    try {
      const taskId = await send(this.api, item.record, {
        fresh, signal: item.stop.signal,
        onProgress: (sent) => { item.sent = sent; this.#changed(); },
        onWait: (problem) => { item.problem = problem; this.#changed(); },
      });
      this.items.delete(item.record.id);
      await this.#forget(item);
      this.dispatchEvent(new CustomEvent("finished", { detail: { taskId, name: item.record.name } }));
    } catch (problem) {
      if (!item.stop.signal.aborted) await this.#failed(item, problem);
    } finally {
      item.stop = null;
      this.#changed();
      this.#next();
    }
  }

  async #failed(item, problem) {
    if (problem.status === 401) {
      item.state = "waiting"; // the sign-in form is up; `restore` continues
      return;
    }
    if (problem.code === "chunk_too_large" && item.record.chunk / 2 >= SMALLEST_CHUNK) {
      await this.#again(item, Math.ceil(item.record.chunk / 2));
      return;
    }
    item.state = problem.code === "file_unreadable" ? "lost" : "failed";
    item.problem = problem;
  }

  /** This server takes smaller chunks only: the same file from the start, under a new session_id. */
  async #again(item, chunk) {
    const [old, file] = [item.record, item.record.file];
    this.items.delete(old.id);
    await this.#forget(item);
    item.state = "waiting";
    item.sent = 0;
    item.fresh = true;
    const change = { id: newId(), chunk, print: await fingerprint(file, chunk).catch(() => "") };
    this.items.set(change.id, item);
    await this.#keep(item, change);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function newId() {
  const random = crypto.getRandomValues(new Uint8Array(12)); // randomUUID needs TLS, this does not
  return `page-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
