// Changes that are not saved yet, kept in sessionStorage: they survive a reload, an expired token and a look at another
// transcript, belong to this tab alone, and are gone with it. Signing out forgets them all. For which there is no room
// there, it is kept in memory: that survives an expired token, and not a reload, so `put` says so.

const PREFIX = "cosygate.draft.";
const MOST = 20; // transcripts
const LARGEST = 1_000_000; // characters of one draft: a tab has room for about five million

const isList = (value) => Array.isArray(value) && value.every((pair) => Array.isArray(pair) && pair.length === 2);

export class Drafts {
  #owner = "";
  #memory = new Map(); // key → a draft for which there was no room; no more than `MOST`, the oldest goes first

  /** Somebody is signed in. What is not theirs is forgotten: a shared machine keeps nothing of somebody who has left. */
  enter(owner) {
    this.#owner = owner;
    for (const key of this.#keys()) if (!key.startsWith(`${PREFIX}${owner}.`)) sessionStorage.removeItem(key);
    for (const key of this.#memory.keys()) if (!key.startsWith(`${PREFIX}${owner}.`)) this.#memory.delete(key);
  }

  /** Keeps a draft. Says whether there was room, so that a reload will find it. */
  put(taskId, draft) {
    const key = this.#key(taskId);
    const text = JSON.stringify(draft);
    this.#memory.delete(key);
    try {
      const full = sessionStorage.getItem(key) === null && this.#keys().length >= MOST;
      if (full || text.length > LARGEST) throw new RangeError("no room");
      sessionStorage.setItem(key, text);
      return true;
    } catch {
      sessionStorage.removeItem(key); // an older one would come back as if it were this one
      this.#memory.set(key, text);
      if (this.#memory.size > MOST) this.#memory.delete(this.#memory.keys().next().value);
      return false;
    }
  }

  /** The draft of a transcript, or null. */
  get(taskId) {
    try {
      const draft = JSON.parse(this.#memory.get(this.#key(taskId)) ?? sessionStorage.getItem(this.#key(taskId)));
      return Number.isInteger(draft?.version) && [draft.texts, draft.own, draft.names].every(isList) ? draft : null;
    } catch {
      return null; // written by something else
    }
  }

  remove(taskId) {
    this.#memory.delete(this.#key(taskId));
    sessionStorage.removeItem(this.#key(taskId));
  }

  /** How many this tab has. */
  get count() {
    return this.#keys().length + this.#memory.size;
  }

  clear() {
    this.#memory.clear();
    for (const key of this.#keys()) sessionStorage.removeItem(key);
  }

  #keys() {
    return Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
  }

  #key(taskId) {
    return `${PREFIX}${this.#owner}.${taskId}`;
  }
}
