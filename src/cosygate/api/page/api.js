// Talks to the gateway: adds the token, bounds the wait, turns every failure into a Problem (RFC 9457).

const WAIT_MS = 120_000; // the longest that one request may take; a chunk of 1 MiB on 10 kB/s fits

/** What went wrong, in words. `status` 0 means that no answer came at all. */
export class Problem extends Error {
  constructor({ status = 0, code = "", title = "", detail = "", trace_id = "", retry_after = 0 }) {
    super(detail || title);
    Object.assign(this, { status, code, title, detail, traceId: trace_id, retryAfter: Number(retry_after) || 0 });
  }

  /** Whether sending the same again may help. */
  get retryable() {
    return [0, 408, 429].includes(this.status) || this.status >= 500;
  }

  static unreachable() {
    return new Problem({ code: "unreachable", title: "The server cannot be reached",
      detail: navigator.onLine ? "Is it running?" : "This device is offline." });
  }

  static async from(response) {
    const trace_id = response.headers.get("X-Trace-Id") ?? "";
    const retry_after = response.headers.get("Retry-After") ?? 0;
    const bare = { status: response.status, title: `The server answered ${response.status}`, trace_id, retry_after };
    if (!(response.headers.get("Content-Type") ?? "").includes("json")) return new Problem(bare);
    const body = await response.json().catch(() => ({}));
    return new Problem({ ...bare, ...body, status: response.status });
  }
}

export class Api {
  #token;
  #onRefused;

  /** `token()` gives the bearer token; `onRefused(problem)` is told when the server no longer takes it. */
  constructor({ token, onRefused }) {
    this.#token = token;
    this.#onRefused = onRefused;
  }

  /** The Response of a successful call. Throws Problem, or the signal's reason when it was aborted. */
  async call(path, { method = "GET", body, headers = {}, signal, waitMs = WAIT_MS } = {}) {
    const token = this.#token();
    const signals = [signal, waitMs ? AbortSignal.timeout(waitMs) : null].filter(Boolean);
    let response;
    try {
      response = await fetch(path, {
        method, body, cache: "no-store", signal: AbortSignal.any(signals),
        headers: { Accept: "application/json", ...headers, Authorization: `Bearer ${token}` },
      });
    } catch {
      signal?.throwIfAborted();
      throw Problem.unreachable();
    }
    if (response.ok) return response;
    const problem = await Problem.from(response);
    if (problem.status === 401 && token === this.#token()) this.#onRefused(problem);
    throw problem;
  }

  async json(path, options) {
    const response = await this.call(path, options);
    if (response.status === 204) return null;
    try {
      return await response.json();
    } catch {
      options?.signal?.throwIfAborted();
      throw Problem.unreachable();
    }
  }
}

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/** Sleeps before try number `n` (from 0): full jitter, doubling, at least what the server asked for. Ends early when
 * the device comes back online; throws the signal's reason when it is aborted. */
export async function backOff(n, problem, signal) {
  const asked = Math.min(problem.retryAfter ?? 0, 60) * 1000;
  const ms = Math.max(asked, FIRST_MS / 2 + Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** n));
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const early = () => { clearTimeout(timer); resolve(); };
    signal?.addEventListener("abort", early, { once: true });
    if (!asked) addEventListener("online", early, { once: true });
  });
  signal?.throwIfAborted();
}
