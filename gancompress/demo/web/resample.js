// Bicubic resizing in whole numbers, as Pillow does it: training resized its images that way.

const BITS = 22; // of a coefficient's fraction

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** For every output position: where its window starts, and the weights in it. */
function windows(from, to) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const found = [];
  for (let out = 0; out < to; out++) {
    const centre = (out + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - 2 * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + 2 * stretch + 0.5));
    const weights = [];
    for (let x = start; x < end; x++) weights.push(cubic((x - centre + 0.5) / stretch));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const fixed = weights.map((w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)));
    found.push([start, fixed]);
  }
  return found;
}

/** One direction: `count` lines, pixels `step` apart and lines `stride` apart, in bytes. */
function pass(source, target, found, count, [step, stride], [outStep, outStride]) {
  for (let line = 0; line < count; line++) {
    for (let out = 0; out < found.length; out++) {
      const [start, weights] = found[out];
      const at = line * outStride + out * outStep;
      for (let channel = 0; channel < 4; channel++) {
        let sum = 2 ** (BITS - 1);
        let place = line * stride + start * step + channel;
        for (const weight of weights) {
          sum += source[place] * weight;
          place += step;
        }
        target[at + channel] = Math.max(0, Math.min(255, Math.floor(sum / 2 ** BITS)));
      }
    }
  }
}

/** RGBA bytes of `width` x `height` pixels -> those of `toWidth` x `toHeight`. */
export function resample(source, width, height, toWidth, toHeight) {
  if (width === toWidth && height === toHeight) return new Uint8ClampedArray(source);
  const wide = new Uint8ClampedArray(toWidth * height * 4);
  pass(source, wide, windows(width, toWidth), height, [4, width * 4], [4, toWidth * 4]);
  const done = new Uint8ClampedArray(toWidth * toHeight * 4);
  pass(wide, done, windows(height, toHeight), toWidth, [toWidth * 4, 4], [toWidth * 4, 4]);
  return done;
}
