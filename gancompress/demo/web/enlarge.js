// A small drawing at the screen's size, with edges as sharp as the screen shows them.

const SOLID = 0.42; // share of lines in a pixel's surroundings from which on one sees a line
const LEVELS = 32; // of the lines' opacity that are told apart

/** For every position on the screen: the first of three pixels of the grid, and their weights. */
function surroundings(grid, side) {
  return Array.from({ length: side }, (_, position) => {
    const at = ((position + 0.5) * grid) / side;
    const middle = Math.min(grid - 1, Math.floor(at));
    const offset = at - middle - 0.5;
    // a quadratic B-spline
    const weights = [(0.5 - offset) ** 2 / 2, 0.75 - offset ** 2, (0.5 + offset) ** 2 / 2];
    return { middle, weights, pixels: [-1, 0, 1].map((step) => Math.max(0, Math.min(grid - 1, middle + step))) };
  });
}

/**
 * The opacity of lines, in [0, 255].
 *
 * @param {{grid: number, lines: Uint8Array}} drawing
 * @param {number} side of the screen's picture, in pixels
 * @returns {Uint8ClampedArray} `side` x `side`
 */
export function enlargedLines({ grid, lines }, side) {
  const around = surroundings(grid, side);
  const slope = (0.8 * side) / grid; // from clear to solid within about a pixel of the screen
  const made = new Uint8ClampedArray(side * side);
  for (let y = 0, place = 0; y < side; y++) {
    for (let x = 0; x < side; x++, place++) {
      let share = 0;
      for (let row = 0; row < 3; row++) {
        const start = around[y].pixels[row] * grid;
        for (let column = 0; column < 3; column++) {
          if (lines[start + around[x].pixels[column]]) share += around[y].weights[row] * around[x].weights[column];
        }
      }
      if (share) made[place] = 255 * ((share - SOLID) * slope + 0.5);
    }
  }
  return made;
}

/**
 * The colours, which meet in the middle of lines: none of them is seen on a line's other side.
 *
 * @param {{grid: number, colours: Uint8ClampedArray, lines: Uint8Array}} drawing
 * @param {Uint8ClampedArray} opacity of the lines as they are shown, `side` x `side`
 * @param {number} side of the screen's picture, in pixels
 * @returns {Uint8ClampedArray} RGBA, `side` x `side`
 */
export function enlargedColours(drawing, opacity, side) {
  const { grid, colours, lines } = drawing;
  const made = new Uint8ClampedArray(4 * side * side);
  const words = new Uint32Array(made.buffer);
  const known = new Uint8Array(side * side);
  const palette = new Uint32Array(colours.buffer);
  const calm = plain(drawing, palette);
  const around = surroundings(grid, side);
  for (let y = 0, place = 0; y < side; y++) {
    for (let x = 0; x < side; x++, place++) {
      const pixel = around[y].middle * grid + around[x].middle;
      if (lines[pixel] || opacity[place]) continue;
      known[place] = 1;
      if (calm[pixel]) words[place] = palette[pixel];
      else made.set(mixed(drawing, palette, around[x], around[y], (2 * side) / grid), 4 * place);
    }
  }
  flood(words, known, opacity, side);
  return made;
}

/** For every pixel whether all around it have its colour, but the lines. */
function plain({ grid, lines }, palette) {
  const calm = new Uint8Array(grid * grid).fill(1);
  const differ = (one, other) => {
    if (palette[one] === palette[other] || lines[one] || lines[other]) return;
    calm[one] = calm[other] = 0;
  };
  for (let place = 0; place < calm.length; place++) {
    const [x, below] = [place % grid, place + grid];
    if (x + 1 < grid) differ(place, place + 1);
    if (below >= calm.length) continue;
    differ(place, below);
    if (x > 0) differ(place, below - 1);
    if (x + 1 < grid) differ(place, below + 1);
  }
  return calm;
}

/** The colour between pixels: a sharp edge between two, and a soft mixture of more. */
function mixed({ grid, colours, lines }, palette, column, row, sharpness) {
  const shares = new Map();
  let sum = 0;
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      const pixel = row.pixels[i] * grid + column.pixels[j];
      if (lines[pixel]) continue;
      const share = row.weights[i] * column.weights[j];
      const known = shares.get(palette[pixel]);
      if (known) known.share += share;
      else shares.set(palette[pixel], { share, pixel });
      sum += share;
    }
  }
  const parts = [...shares.values()].sort((one, other) => other.share - one.share);
  if (parts.length === 2) {
    const [one, other] = parts;
    const edge = Math.min(1, 0.5 + ((one.share - other.share) / sum) * 0.25 * sharpness);
    [one.share, other.share, sum] = [edge, 1 - edge, 1];
  }
  return [0, 1, 2, 3].map((channel) =>
    parts.reduce((total, { share, pixel }) => total + share * colours[4 * pixel + channel], 0) / sum);
}

/**
 * Colour what is unknown like its neighbours, the most transparent places first: colours that come
 * from two sides meet where a line is most opaque. Source: Meyer, the watershed by flooding.
 */
function flood(words, known, opacity, side) {
  const queues = Array.from({ length: LEVELS }, () => []);
  const visit = (from, to, level) => {
    if (known[to]) return;
    known[to] = 1;
    words[to] = words[from];
    queues[Math.max(level, (opacity[to] * LEVELS) >> 8)].push(to);
  };
  const leave = (place, level) => {
    const x = place % side;
    if (x > 0) visit(place, place - 1, level);
    if (x + 1 < side) visit(place, place + 1, level);
    if (place >= side) visit(place, place - side, level);
    if (place + side < words.length) visit(place, place + side, level);
  };
  const sources = known.slice();
  for (let place = 0; place < sources.length; place++) if (sources[place]) leave(place, 0);
  queues.forEach((queue, level) => {
    for (let next = 0; next < queue.length; next++) leave(queue[next], level);
  });
}
