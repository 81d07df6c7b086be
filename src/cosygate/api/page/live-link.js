// Drives a live session: sockets, tickets, the clock. All decisions are the session's (live-session.js).

import { Problem } from "/page/api.js";

const LOOK_MS = 250;
const TICKET_MS = 8_000; // the longest wait for one
const FULL = 256 * 1024; // bytes in the browser's own buffer: more would only wait there, where nobody can count it

/** Event `change`: look at the session. */
export class LiveLink extends EventTarget {
  #socket = null;
  #opening = null; // aborts what leads to a socket
  #stop = new AbortController();
  #timer;

  constructor(api, session) {
    super();
    this.api = api;
    this.session = session;
    this.#timer = setInterval(() => this.#drive(), LOOK_MS);
    for (const kind of ["online", "offline"]) {
      addEventListener(kind, () => { this.session.stir(performance.now()); this.#drive(); }, { signal: this.#stop.signal });
    }
    this.#drive();
  }

  /** Samples as they come. They keep the clock too: timers of a hidden page run late. */
  push(samples) {
    this.session.push(samples);
    this.#drive();
  }

  end() {
    this.session.end();
    this.#drive();
  }

  release() {
    this.session.release(performance.now());
    this.#drive();
  }

  close() {
    clearInterval(this.#timer);
    this.#stop.abort();
    this.#drop();
  }

  #drive() {
    if (this.#stop.signal.aborted) return;
    const now = performance.now();
    const order = this.session.step(now);
    if (order === "drop") this.#drop();
    else if (order === "connect") this.#connect();
    this.#pump(now);
    this.#told();
  }

  #pump(now) {
    const socket = this.#socket;
    while (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < FULL) {
      const message = this.session.next(now);
      if (message === null) return;
      socket.send(message);
    }
  }

  #told() {
    this.dispatchEvent(new Event("change"));
    if (this.session.over) this.close();
  }

  async #connect() {
    this.#drop();
    const opening = this.#opening = new AbortController();
    let ticket;
    try {
      ({ ticket } = await this.api.json("/v1/live/tickets", { method: "POST", waitMs: TICKET_MS, signal: opening.signal }));
    } catch (problem) {
      if (opening.signal.aborted) return;
      if (problem.status === 401) this.session.hold(); // the sign-in form is asking; then it goes on
      this.session.closed(1006, performance.now(), problem.status === 401 ? Problem.unreachable() : problem);
      return this.#told();
    }
    if (opening.signal.aborted) return;
    const { protocol, host } = location;
    const socket = new WebSocket(`${protocol === "https:" ? "wss:" : "ws:"}//${host}/v1/live`, ["cosygate.v1", `ticket.${ticket}`]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    const on = (kind, work) => socket.addEventListener(kind, (event) => {
      if (socket !== this.#socket) return; // dropped: whatever it still says is of the past
      work(event);
      this.#drive();
    });
    on("open", () => this.session.opened());
    on("message", ({ data }) => this.session.received(JSON.parse(data), performance.now()));
    on("close", ({ code }) => {
      this.#socket = null;
      this.session.closed(code, performance.now());
    });
  }

  #drop() {
    this.#opening?.abort();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(); // on a dead line the handshake never ends; nobody waits for it
  }
}
