// A task's events as they come: Server-Sent Events over fetch, because EventSource cannot send an Authorization
// header. A broken stream is taken up again with Last-Event-ID.

import { backOff, Problem } from "/page/api.js";

const QUIET_MS = 60_000; // the server sends a comment far more often than that; a longer silence is a dead connection
const TRIES = 10; // in a row without a single event
const ENDS = new Set(["done", "failed", "cancelled"]);

/** Parses text/event-stream (HTML standard, 9.2.6), fed in pieces of any size. */
export class EventParser {
  #rest = "";
  #id = "";
  #kind = "";
  #data = [];

  /** The events that `text` completes, as {id, kind, data}; data is parsed JSON. */
  *feed(text) {
    this.#rest += text;
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line) this.#field(line);
      else yield* this.#dispatch();
    }
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "id") this.#id = value;
    else if (name === "event") this.#kind = value;
    else if (name === "data") this.#data.push(value);
  }

  *#dispatch() {
    if (this.#data.length) yield { id: this.#id, kind: this.#kind || "message", data: JSON.parse(this.#data.join("\n")) };
    this.#kind = "";
    this.#data = [];
  }
}

/** The chunks of a body; throws Problem when nothing comes for too long or the connection breaks. */
async function* pieces(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      let timer;
      const quiet = new Promise((_, reject) => { timer = setTimeout(() => reject(Problem.unreachable()), QUIET_MS); });
      const read = reader.read();
      read.catch(() => {}); // when `quiet` wins, nobody else waits for it
      try {
        const { value, done } = await Promise.race([read, quiet]);
        if (done) return;
        yield value;
      } finally {
        clearTimeout(timer);
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof Problem ? error : Problem.unreachable();
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Yields {id, kind, data} until the task has ended. Throws Problem, or the signal's reason when it is aborted. */
export async function* taskEvents(api, taskId, { signal }) {
  let lastId = "";
  for (let failures = 0; ; failures++) {
    try {
      const response = await api.call(`/v1/task/${encodeURIComponent(taskId)}/events`, {
        signal, waitMs: 0, headers: { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) },
      });
      const parser = new EventParser();
      for await (const text of pieces(response, signal)) {
        for (const event of parser.feed(text)) {
          failures = 0;
          lastId = event.id || lastId;
          yield event;
          if (ENDS.has(event.kind)) return;
        }
      }
    } catch (problem) {
      if (!problem.retryable || failures >= TRIES) throw problem;
      await backOff(failures, problem, signal);
      continue;
    }
    if (failures >= TRIES) throw Problem.unreachable();
    await backOff(failures, {}, signal); // the server closed it: it is going down, or this browser was too slow
  }
}
