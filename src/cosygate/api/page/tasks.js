// The caller's tasks, newest first: the first page kept fresh while something is going on, older pages on demand.

const FRESH_MS = 2_500;
export const ACTIVE = new Set(["queued", "running"]);

/** Event `change`: the list or one of its tasks changed. */
export class Tasks extends EventTarget {
  #byId = new Map(); // in the order of the list
  #cursor = null;
  #timer = null;
  #running = false;
  loaded = false;

  constructor(api, onProblem) {
    super();
    this.api = api;
    this.onProblem = onProblem;
    document.addEventListener("visibilitychange", () => this.#plan(0));
  }

  get all() {
    return [...this.#byId.values()];
  }

  get more() {
    return this.#cursor !== null;
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** Starts over, for a caller who has just signed in. */
  async start() {
    this.stop();
    this.#running = true;
    await this.refresh();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#byId.clear();
    this.#cursor = null;
    this.loaded = false;
    this.#changed();
  }

  /** Reads the first page again. What lies beyond it stays as it is. */
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const page = await this.api.json("/v1/tasks");
      if (!this.#running) return;
      const older = this.#afterPage(page.tasks);
      if (!this.loaded || !older.length) this.#cursor = page.next_cursor;
      this.#byId = new Map([...page.tasks, ...older].map((task) => [task.task_id, task]));
      this.loaded = true;
      this.#changed();
    } catch (problem) {
      if (!this.loaded) this.onProblem(problem); // later ones: the next refresh may do better
    }
    this.#plan(FRESH_MS);
  }

  async showMore() {
    try {
      const page = await this.api.json(`/v1/tasks?${new URLSearchParams({ cursor: this.#cursor })}`);
      for (const task of page.tasks) this.#byId.set(task.task_id, task);
      this.#cursor = page.next_cursor;
      this.#changed();
    } catch (problem) {
      this.onProblem(problem);
    }
  }

  /** What another view has learned of a task. */
  update(id, change) {
    const task = this.#byId.get(id);
    if (task) {
      this.#byId.set(id, { ...task, ...change });
      this.#changed();
      this.#plan(FRESH_MS);
    }
  }

  remove(id) {
    if (this.#byId.delete(id)) this.#changed();
  }

  /** Those that were listed behind the last task of the fresh first page; none when the page is all there is. */
  #afterPage(fresh) {
    const ids = [...this.#byId.keys()];
    const last = fresh.length ? ids.indexOf(fresh.at(-1).task_id) : -1;
    return last < 0 ? [] : ids.slice(last + 1).map((id) => this.#byId.get(id));
  }

  #plan(ms) {
    clearTimeout(this.#timer);
    const busy = this.all.some((task) => ACTIVE.has(task.state));
    if (this.#running && !document.hidden && (busy || !this.loaded || ms === 0)) {
      this.#timer = setTimeout(() => this.refresh(), ms);
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
