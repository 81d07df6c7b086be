// Sends one recording: chunks as raw bodies, three at a time, each with its digest, retried, resumed from what the
// server says it has. Knows nothing of the page.

import { backOff, Problem } from "/page/api.js";

const AT_ONCE = 3; // of the six connections that a browser opens to one HTTP/1.1 server
const TRIES = 8; // of one request; with the back-off that is about a minute
const ROUNDS = 3; // of asking the server what is missing
const KIB = 1024;

/** Bytes of one chunk: small enough that a small file shows progress and a lost connection costs little, large enough
 * that 2 GiB stays far below the server's limit on the number of parts. */
export function chunkBytes(size) {
  return Math.min(1024 * KIB, Math.max(128 * KIB, Math.ceil(size / 40 / KIB) * KIB));
}

export function partCount({ size, chunk }) {
  return Math.max(1, Math.ceil(size / chunk)); // an empty file is one empty part: the server says what it thinks of it
}

function partBytes(record, seq) {
  return Math.min(record.chunk, record.size - seq * record.chunk);
}

async function read(file, start, end) {
  try {
    return await file.slice(start, end).arrayBuffer();
  } catch {
    throw new Problem({ status: 400, code: "file_unreadable", title: "The file cannot be read any more",
      detail: "It was changed, moved or removed after it was chosen. Choose it again." });
  }
}

/** SHA-256 as base64, or null where the browser offers no cryptography (a page served without TLS to another host). */
async function sha256(buffer) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  return btoa(String.fromCharCode(...digest));
}

/** What tells that a file chosen again is the same one: its name, size, time, and the digest of its first chunk. */
export async function fingerprint(file, chunk) {
  const head = await sha256(await read(file, 0, Math.min(chunk, file.size)));
  return JSON.stringify([file.name, file.size, file.lastModified, head]);
}

/** Repeats `work` while its problem is worth repeating. `onWait(problem)` hears of every failure, `onWait(null)` of the
 * success after one. */
async function persist(work, { signal, onWait }) {
  for (let n = 0; ; n++) {
    try {
      const answer = await work();
      if (n) onWait(null);
      return answer;
    } catch (problem) {
      if (!problem.retryable || n + 1 >= TRIES) throw problem;
      onWait(problem);
      await backOff(n, problem, signal);
    }
  }
}

async function putPart(api, record, seq, signal) {
  const start = seq * record.chunk;
  const body = await read(record.file, start, start + partBytes(record, seq));
  const last = seq === partCount(record) - 1;
  const query = last ? `?${new URLSearchParams({ is_last: "1", filename: record.name, ...record.options })}` : "";
  const digest = await sha256(body);
  return api.json(`/v1/audio/${record.id}/${seq}${query}`, {
    method: "PUT", body, signal,
    headers: { "Content-Type": "application/octet-stream", ...(digest && { "Content-Digest": `sha-256=:${digest}:` }) },
  });
}

async function status(api, record, signal) {
  try {
    return await api.json(`/v1/audio/${record.id}`, { signal });
  } catch (problem) {
    if (problem.status === 404) return { received: [], task_id: null };
    throw problem;
  }
}

/** Sends what is missing of `record` ({id, name, size, chunk, file, options}) and returns the task's id.
 *
 * `fresh` says that nothing of it was ever sent, so there is nothing to ask for. `onProgress(bytes)` tells what the server has. Throws Problem, or the signal's reason when it is aborted; calling it
 * again continues. */
export async function send(api, record, { fresh, signal, onProgress, onWait }) {
  for (let round = 0; round < ROUNDS; round++) {
    const state = fresh && !round ? { received: [] } : await persist(() => status(api, record, signal), { signal, onWait });
    if (state.task_id) return state.task_id;
    const received = new Set(state.received);
    const todo = [...Array(partCount(record)).keys()].filter((seq) => !received.has(seq));
    if (!todo.length) todo.push(partCount(record) - 1); // all there, but the last was never named as such
    let sent = [...received].reduce((sum, seq) => sum + partBytes(record, seq), 0);
    onProgress(sent);

    let taskId = null;
    const failed = new AbortController(); // one lane's failure ends the others
    const both = AbortSignal.any([signal, failed.signal]);
    const lane = async () => {
      while (todo.length && !taskId) {
        const seq = todo.shift();
        const answer = await persist(() => putPart(api, record, seq, both), { signal: both, onWait });
        if (!received.has(seq)) sent += partBytes(record, seq);
        onProgress(Math.min(sent, record.size));
        taskId ??= answer.task_id ?? null;
      }
    };
    const lanes = Array.from({ length: AT_ONCE }, lane);
    try {
      await Promise.all(lanes);
    } catch (problem) {
      failed.abort(problem);
      await Promise.allSettled(lanes);
      signal.throwIfAborted();
      throw problem;
    }
    if (taskId) return taskId;
  }
  throw new Problem({ code: "incomplete", title: "The server did not take the whole recording",
    detail: "Every part was sent, but some are still missing there." });
}
