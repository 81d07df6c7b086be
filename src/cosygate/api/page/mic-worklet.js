// Runs beside the sound, not on the page's own thread: the microphone's samples, as 16 kHz s16le in frames of 100 ms,
// and how loud they are.

import { Resampler } from "/page/resample.js";

const RATE = 16_000;
const FRAME = RATE / 10;
const LOUDNESS = RATE / 20; // samples of one point of the level meter

registerProcessor("microphone", class extends AudioWorkletProcessor {
  #resampler = new Resampler(Math.round(sampleRate), RATE);
  #frame = new Int16Array(FRAME); // every platform that has a browser is little-endian
  #filled = 0;
  #peak = 0;
  #heard = 0;
  #over = false;

  constructor() {
    super();
    this.port.onmessage = () => this.#stop();
  }

  process([input]) {
    if (this.#over) return false;
    if (input.length) this.#take(this.#resampler.process(input[0])); // mixed to one channel by the node
    return true;
  }

  #take(samples) {
    for (const sample of samples) {
      this.#frame[this.#filled++] = Math.round(Math.max(-32_768, Math.min(32_767, sample * 32_768)));
      this.#peak = Math.max(this.#peak, Math.abs(sample));
      if (++this.#heard === LOUDNESS) {
        this.port.postMessage({ level: this.#peak });
        this.#peak = this.#heard = 0;
      }
      if (this.#filled === FRAME) this.#send();
    }
  }

  #send() {
    const samples = this.#frame.slice(0, this.#filled);
    this.port.postMessage({ samples }, [samples.buffer]);
    this.#filled = 0;
  }

  /** The last samples go out, and then the word that they were the last. */
  #stop() {
    if (this.#over) return;
    this.#over = true;
    this.#take(this.#resampler.flush());
    if (this.#filled) this.#send();
    this.port.postMessage({ over: true });
  }
});
