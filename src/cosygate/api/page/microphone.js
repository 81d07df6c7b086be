// The microphone: permission, capture at the device's own rate, what can go wrong in words.

const NAMES = {
  NotAllowedError: ["The microphone is not allowed here",
    "Allow it for this page (in the address bar, or in the system’s privacy settings), then press Speak again."],
  NotFoundError: ["There is no microphone", "Connect one, then press Speak again."],
  NotReadableError: ["The microphone cannot be used", "Another program may be using it. Close that, then press Speak again."],
};
const CLOSE_MS = 2_000; // the last samples come at once, or never

function trouble(error) {
  const [title, detail] = NAMES[error.name === "SecurityError" ? "NotAllowedError" : error.name]
    ?? ["The microphone cannot be used", String(error.message || error)];
  return { title, detail };
}

export class Microphone {
  #stream = null;
  #context = null;
  #node = null;
  #over = null; // resolves when the worklet has given its last samples

  /** `onSamples(Int16Array)`: 16 kHz, a tenth of a second. `onLevel(0…1)`: the peak of a twentieth. `onLost(problem)`:
   * the device is gone. */
  constructor({ onSamples, onLevel, onLost }) {
    Object.assign(this, { onSamples, onLevel, onLost });
  }

  /** Asks the user and begins. Throws {title, detail}; closing it meanwhile makes it give up quietly. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
      throw { title: "The browser offers no microphone to this page",
        detail: "It does so over HTTPS, and on the server’s own machine (localhost)." };
    }
    try {
      // The page plays nothing whose echo could come back, and recognisers hear better what no filter has cleaned; only
      // a quiet voice is lifted. Wishes: a device that cannot fulfil them is taken as it is.
      this.#stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
      });
      const [track] = this.#stream.getAudioTracks();
      track.addEventListener("ended", () => this.onLost({ title: "The microphone is gone", detail: "It was unplugged or taken back." }));
      const context = this.#context = this.#fitting(track.getSettings().sampleRate);
      await context.audioWorklet.addModule("/page/mic-worklet.js");
      this.#connect();
      context.addEventListener("statechange", () => { // a call, or the system, interrupted it
        if (!["running", "closed"].includes(context.state)) context.resume().catch(() => {});
      });
      await context.resume();
    } catch (error) {
      this.#release();
      throw trouble(error);
    }
  }

  /** Resolves when the last samples are out; nothing comes after that. */
  async close() {
    if (this.#node) {
      this.#node.port.postMessage("stop");
      await Promise.race([this.#over, new Promise((resolve) => { setTimeout(resolve, CLOSE_MS); })]);
    }
    this.#release();
  }

  /** At the device's rate: only one resampler is on the way, ours. Nothing is played back to the speaker, so that long
   * buffers cost nothing, and a busy machine drops less. */
  #fitting(sampleRate) {
    try {
      return new AudioContext({ latencyHint: "playback", ...(sampleRate && { sampleRate }) });
    } catch {
      return new AudioContext({ latencyHint: "playback" });
    }
  }

  #connect() {
    this.#node = new AudioWorkletNode(this.#context, "microphone", {
      numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1], channelCount: 1, channelCountMode: "explicit",
    });
    this.#over = new Promise((resolve) => {
      this.#node.port.onmessage = ({ data }) => {
        if (data.samples) this.onSamples(data.samples);
        else if (data.over) resolve();
        else this.onLevel(data.level);
      };
    });
    this.#context.createMediaStreamSource(this.#stream).connect(this.#node);
    this.#node.connect(this.#context.destination); // silence: what is connected to nothing may not be run
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#node) this.#node.port.onmessage = null;
    this.#context?.close().catch(() => {});
    this.#stream = this.#node = this.#context = null;
  }
}
