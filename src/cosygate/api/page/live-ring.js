// What has been said and may have to be sent again: frames of s16le with their sample index, as they go over the wire,
// from the oldest kept one on. Bounded: the oldest go first.

const INDEX_BYTES = 8; // u64, big-endian
const SAMPLE_BYTES = 2;

export class LiveRing {
  #frames = []; // {start, end, wire}, without holes between them
  #room;
  start = 0; // the oldest sample that is kept
  end = 0; // one after the newest

  /** Keeps at most `room` samples. */
  constructor(room) {
    this.#room = room;
  }

  /** `samples` is an Int16Array, in the platform's order: little-endian wherever there is a browser. */
  push(samples) {
    const wire = new Uint8Array(INDEX_BYTES + samples.length * SAMPLE_BYTES);
    wire.set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength), INDEX_BYTES);
    const frame = { start: this.end, end: this.end + samples.length, wire };
    this.#label(frame);
    this.#frames.push(frame);
    this.end = frame.end;
    while (this.end - this.start > this.#room) this.#drop();
  }

  /** Everything before `index` may go. */
  forget(index) {
    while (this.#frames.length && this.#frames[0].end <= index) this.#drop();
  }

  /** The first sample is `index` in the session: this ring was begun before that was known. */
  shift(index) {
    for (const frame of this.#frames) {
      frame.start += index;
      frame.end += index;
      this.#label(frame);
    }
    this.start += index;
    this.end += index;
  }

  /** The frame with the sample `index`, or undefined when that is not kept, or not there yet. */
  at(index) {
    let [low, high] = [0, this.#frames.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#frames[middle].end <= index) low = middle + 1;
      else high = middle;
    }
    return index >= this.start ? this.#frames[low] : undefined;
  }

  #drop() {
    this.start = this.#frames.shift().end;
  }

  #label({ start, wire }) {
    new DataView(wire.buffer).setBigUint64(0, BigInt(start));
  }
}
