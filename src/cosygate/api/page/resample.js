// From the microphone's rate to another, in pieces of any size: a windowed sinc, in polyphase form.
//
// What lies above the lower rate's half would come back as another sound: it is 80 dB down. What lies below nine tenths
// of that passes unchanged. Loaded by the audio worklet, which has no window: imports nothing.

const STOP_DB = 80;
const PASS = 0.9; // of half the lower rate; the filter falls from there to that half

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** The modified Bessel function I0, by its series. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-12; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

export class Resampler {
  #up;
  #down;
  #half; // taps on either side of the middle
  #taps; // one row of 2 · half for each phase
  #input; // the samples that outputs still need
  #filled; // how many of them there are
  #at; // where in #input the sample at or before the next output is
  #phase = 0; // how far after it the output lies, in 1/up
  #output = new Float32Array(256);

  constructor(from, to) {
    const divisor = gcd(from, to);
    this.#up = to / divisor;
    this.#down = from / divisor;
    const edge = Math.min(from, to) / 2;
    const width = ((1 - PASS) * edge) / from;
    // Kaiser's formulas for the length and the shape of a window with this attenuation.
    this.#half = from === to ? 1 : Math.ceil((STOP_DB - 7.95) / (14.36 * width) / 2) + 1;
    this.#taps = this.#design((edge * (1 + PASS)) / from, 0.1102 * (STOP_DB - 8.7), from === to);
    this.#input = new Float32Array(2 * this.#half + 1024);
    this.#filled = this.#half - 1; // silence before the first sample
    this.#at = this.#half - 1;
  }

  /** The output that `block` completes. The array is used again by the next call. */
  process(block) {
    this.#append(block);
    return this.#produce();
  }

  /** What is left once the input has ended: in all, one output for each that begins before the input's end. */
  flush() {
    this.#append(new Float32Array(this.#half)); // as many as an output looks ahead
    return this.#produce();
  }

  #design(cutoff, beta, same) {
    const [up, length] = [this.#up, 2 * this.#half];
    const taps = new Float32Array(up * length);
    if (same) {
      taps[0] = 1;
      return taps;
    }
    const whole = bessel(beta);
    for (let phase = 0; phase < up; phase++) {
      const row = taps.subarray(phase * length, (phase + 1) * length);
      let sum = 0;
      for (let k = 0; k < length; k++) {
        const distance = k - this.#half + 1 - phase / up;
        const x = Math.PI * cutoff * distance;
        const inside = Math.max(0, 1 - (distance / this.#half) ** 2);
        row[k] = (x ? Math.sin(x) / x : 1) * (bessel(beta * Math.sqrt(inside)) / whole);
        sum += row[k];
      }
      for (let k = 0; k < length; k++) row[k] /= sum; // every phase passes a constant alike
    }
    return taps;
  }

  #append(block) {
    if (this.#filled + block.length > this.#input.length) {
      const longer = new Float32Array(2 * (this.#filled + block.length));
      longer.set(this.#input.subarray(0, this.#filled));
      this.#input = longer;
    }
    this.#input.set(block, this.#filled);
    this.#filled += block.length;
  }

  #produce() {
    const [up, half, length] = [this.#up, this.#half, 2 * this.#half];
    let count = 0;
    while (this.#at + half < this.#filled) {
      if (count === this.#output.length) {
        const longer = new Float32Array(2 * count);
        longer.set(this.#output);
        this.#output = longer;
      }
      let sum = 0;
      const [row, first] = [this.#phase * length, this.#at - half + 1];
      for (let k = 0; k < length; k++) sum += this.#taps[row + k] * this.#input[first + k];
      this.#output[count++] = sum;
      this.#phase += this.#down;
      this.#at += Math.floor(this.#phase / up);
      this.#phase %= up;
    }
    const done = Math.min(this.#at - half + 1, this.#filled);
    this.#input.copyWithin(0, done, this.#filled);
    this.#filled -= done;
    this.#at -= done;
    return this.#output.subarray(0, count);
  }
}
