// The level of the microphone over the last seconds, newest at the right.

const [BAR, SPACE] = [3, 2]; // pixels
const FLOOR_DB = -54;

/** A peak (0…1) as ears take it: 0 silence, 1 full. */
function loudness(peak) {
  return Math.max(0, Math.min(1, 1 - (20 * Math.log10(Math.max(peak, 1e-6))) / FLOOR_DB)) ** 1.5;
}

/** Draws in the colours of the style sheet's variables; returns the newest level. */
export function drawLevels(canvas, levels) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const newest = levels.length ? loudness(levels.at(-1)) : 0;
  if (!width || !height) return newest;
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const [track, accent] = ["--track", "--accent"].map((name) => style.getPropertyValue(name).trim());
  const count = Math.floor(width / (BAR + SPACE));
  for (let n = 0; n < count; n++) {
    const level = levels[levels.length - count + n];
    const tall = Math.max(BAR, loudness(level ?? 0) * height);
    pen.fillStyle = level === undefined ? track : accent;
    pen.beginPath();
    pen.roundRect(width - (count - n) * (BAR + SPACE), (height - tall) / 2, BAR, tall, BAR / 2);
    pen.fill();
  }
  return newest;
}
