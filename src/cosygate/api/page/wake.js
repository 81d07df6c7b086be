// Keeps a phone's screen on while somebody speaks or reads along, where the browser lets a page ask for that.

/** Returns what lets it go out again. */
export function keepAwake() {
  let lock = null;
  const stop = new AbortController();
  const ask = async () => {
    if (document.hidden || !navigator.wakeLock) return;
    try {
      lock = await navigator.wakeLock.request("screen");
      if (stop.signal.aborted) await lock.release();
    } catch {
      // A low battery, or a policy: then it goes dark as always.
    }
  };
  document.addEventListener("visibilitychange", ask, { signal: stop.signal }); // hidden pages lose it
  ask();
  return () => {
    stop.abort();
    lock?.release().catch(() => {});
  };
}
