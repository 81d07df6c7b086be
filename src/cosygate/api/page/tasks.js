// The caller's tasks, newest first. Pages come on demand; while something is going on, only what is going on is asked
// for again (finished tasks carry their text, so whole pages would be heavy).

const LOOK_MS = 2_500;
const ENDED_AT_ONCE = 10; // finished tasks that one look reads
export const ACTIVE = new Set(["queued", "running"]);

/** Event `change`: the list or one of its tasks changed. */
export class Tasks extends EventTarget {
  #byId = new Map();
  #cursor = null;
  #timer = null;
  #round = 0; // rises at every start and stop: what an earlier one asked for comes too late
  loaded = false;

  constructor(api, onProblem) {
    super();
    this.api = api;
    this.onProblem = onProblem;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.loaded) this.refresh();
    });
  }

  /** Ids rise with time; equal or foreign ones fall back to nothing worse than their own order. */
  get all() {
    const born = (task) => Date.parse(task.created_at);
    return [...this.#byId.values()].sort((a, b) => born(b) - born(a) || (a.task_id < b.task_id ? 1 : -1));
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
    await this.refresh();
  }

  stop() {
    this.#round += 1;
    clearTimeout(this.#timer);
    this.#byId.clear();
    this.#cursor = null;
    this.loaded = false;
    this.#changed();
  }

  /** Reads the newest page. */
  async refresh() {
    await this.#read("/v1/tasks", (page) => {
      if (!this.loaded) this.#cursor = page.next_cursor ?? null;
      this.loaded = true;
      this.#take(page.tasks);
    }, (problem) => { if (!this.loaded) this.onProblem(problem); }); // a later one may do better
  }

  async showMore() {
    await this.#read(`/v1/tasks?${new URLSearchParams({ cursor: this.#cursor })}`, (page) => {
      this.#cursor = page.next_cursor ?? null;
      this.#take(page.tasks);
    }, this.onProblem);
  }

  /** What another view has learned of a task. */
  update(id, change) {
    const task = this.#byId.get(id);
    if (task) this.#take([{ ...task, ...change }]);
  }

  remove(id) {
    if (this.#byId.delete(id)) this.#changed();
  }

  async #read(path, onPage, onProblem) {
    const round = this.#round;
    try {
      const page = await this.api.json(path);
      if (round === this.#round) onPage(page);
    } catch (problem) {
      if (round === this.#round) onProblem(problem);
    }
    this.#plan();
  }

  #take(tasks) {
    for (const task of tasks) this.#byId.set(task.task_id, task);
    this.#changed();
    this.#plan();
  }

  #plan() {
    clearTimeout(this.#timer);
    if (this.all.some((task) => ACTIVE.has(task.state))) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  /** What is going on now, and how what no longer is has ended. */
  async #look() {
    const round = this.#round;
    if (!document.hidden) {
      try {
        const pages = await Promise.all([...ACTIVE].map((state) => this.api.json(`/v1/tasks?limit=100&state=${state}`)));
        const active = pages.flatMap((page) => page.tasks);
        const known = new Set(active.map((task) => task.task_id));
        const ended = this.all.filter((task) => ACTIVE.has(task.state) && !known.has(task.task_id)).slice(0, ENDED_AT_ONCE);
        const read = await Promise.all(ended.map((task) => this.#one(task.task_id)));
        if (round === this.#round) this.#take([...active, ...read.filter(Boolean)]);
      } catch {
        // The next look may do better; a refused token is told by the Api.
      }
    }
    if (round === this.#round) this.#plan();
  }

  async #one(id) {
    try {
      return await this.api.json(`/v1/task/${encodeURIComponent(id)}`);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      this.remove(id);
      return null;
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
