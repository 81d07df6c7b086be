// Changes that are not saved yet, kept in sessionStorage: they survive a reload, an expired token and a look at another
// transcript, belong to this tab alone, and are gone with it. Signing out forgets them all.

const PREFIX = "cosygate.draft.";
const MOST = 20; // transcripts
const LARGEST = 1_000_000; // characters of one draft: a tab has room for about five million

const isList = (value) => Array.isArray(value) && value.every((pair) => Array.isArray(pair) && pair.length === 2);

export class Drafts {
  #owner = "";

  /** Somebody is signed in. What is not theirs is forgotten: a shared machine keeps nothing of somebody who has left. */
  enter(owner) {
    this.#owner = owner;
    for (const key of this.#keys()) if (!key.startsWith(`${PREFIX}${owner}.`)) sessionStorage.removeItem(key);
  }

  /** Keeps a draft. Says whether there was room. */
  put(taskId, draft) {
    const key = this.#key(taskId);
    const text = JSON.stringify(draft);
    try {
      if (text.length > LARGEST || (sessionStorage.getItem(key) === null && this.count >= MOST)) throw new RangeError("no room");
      sessionStorage.setItem(key, text);
      return true;
    } catch {
      sessionStorage.removeItem(key); // an older one would come back as if it were this one
      return false;
    }
  }

  /** The draft of a transcript, or null. */
  get(taskId) {
    try {
      const draft = JSON.parse(sessionStorage.getItem(this.#key(taskId)));
      return Number.isInteger(draft?.version) && [draft.texts, draft.own, draft.names].every(isList) ? draft : null;
    } catch {
      return null; // written by something else
    }
  }

  remove(taskId) {
    sessionStorage.removeItem(this.#key(taskId));
  }

  /** How many this tab has. */
  get count() {
    return this.#keys().length;
  }

  clear() {
    for (const key of this.#keys()) sessionStorage.removeItem(key);
  }

  #keys() {
    return Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
  }

  #key(taskId) {
    return `${PREFIX}${this.#owner}.${taskId}`;
  }
}
