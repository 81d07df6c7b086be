// The strip above the player's buttons: where in the recording somebody speaks, whose voice it is, what has been heard.

/** Draws onto `canvas`, in the colours of its style sheet variables. `voiceOf(segment)` is a colour number or -1. */
export function drawStrip(canvas, { segments, time, duration, voiceOf }) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(name).trim();

  const middle = height / 2;
  const heard = duration ? (time / duration) * width : 0;
  const bar = (from, to, thick, fill) => {
    pen.fillStyle = fill;
    pen.beginPath();
    pen.roundRect(from, middle - thick / 2, Math.max(to - from, 1.5), thick, Math.min(thick, to - from) / 2);
    pen.fill();
  };
  bar(0, width, 3, color("--track"));
  bar(0, heard, 3, color("--accent"));
  if (!duration) return;
  const colors = new Map();
  for (const segment of segments) {
    const voice = voiceOf(segment);
    if (!colors.has(voice)) colors.set(voice, voice < 0 ? [color("--speech"), color("--accent")] : [color(`--voice-${voice}-soft`), color(`--voice-${voice}`)]);
    const [ahead, behind] = colors.get(voice);
    const [from, to] = [(segment.start / duration) * width, (segment.end / duration) * width];
    bar(from, to, height * 0.5, ahead);
    if (heard > from) {
      pen.save();
      pen.beginPath();
      pen.rect(0, 0, heard, height);
      pen.clip();
      bar(from, to, height * 0.5, behind);
      pen.restore();
    }
  }
}
