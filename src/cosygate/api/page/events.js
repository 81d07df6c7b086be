// Events as they come, a task's or a live session's: Server-Sent Events over fetch, because EventSource cannot send an
// Authorization header. A broken stream is taken up again with Last-Event-ID.

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
export function taskEvents(api, taskId, { signal }) {
  return events(api, `/v1/task/${encodeURIComponent(taskId)}/events`, { signal, ends: ENDS });
}

/** The events of `path` until one of the kinds `ends`, over any number of connections: it gives up after `tries` without
 * an event. `onLink(problem)` hears when the connection is gone, `onLink(null)` when there is one. */
export async function* events(api, path, { signal, ends, tries = TRIES, onLink = () => {} }) {
  let lastId = "";
  for (let failures = 0; ; failures++) {
    try {
      const response = await api.call(path, {
        signal, waitMs: 0, headers: { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) },
      });
      onLink(null);
      const parser = new EventParser();
      for await (const text of pieces(response, signal)) {
        for (const event of parser.feed(text)) {
          failures = 0;
          lastId = event.id || lastId;
          yield event;
          if (ends.has(event.kind)) return;
        }
      }
    } catch (problem) {
      if (!problem.retryable || failures >= tries) throw problem;
      onLink(problem);
      await backOff(failures, problem, signal);
      continue;
    }
    if (failures >= tries) throw Problem.unreachable();
    onLink(Problem.unreachable());
    await backOff(failures, {}, signal); // the server closed it: it is going down, or this browser was too slow
  }
}
