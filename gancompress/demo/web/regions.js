// What the bucket fills: a region between lines, whose outline may have small gaps.

const CLEARLY = 2; // pixels: what is farther from lines by so much is wider

/** Half the width of the widest gap that stops paint, in pixels. */
const closing = (grid) => Math.max(1, Math.round(grid / 64));

/**
 * Places of the pixels that a click fills: one colour, between lines.
 *
 * Regions are parted at narrow places, `2 * radius` pixels wide at most, where they are clearly wider
 * on both sides: that is what a gap in an outline looks like. A passage that is narrow all along
 * parts nothing, unless one clicks into a part of it that nothing wide belongs to.
 *
 * @param {{grid: number, lines: Uint8Array, colours: Uint8ClampedArray}} drawing
 * @param {number} start place of the click: `y * grid + x`
 * @returns {Int32Array} ascending; empty where there are lines all around
 */
export function region({ grid, lines, colours }, start) {
  const radius = closing(grid);
  const from = offLine(lines, grid, start, radius);
  if (from < 0) return new Int32Array(0);
  const distance = distances(lines, grid, radius + CLEARLY);
  const small = parts(distance, grid, radius, 1);
  const isSmall = !small.some((label, place) => label === small[from] && distance[place] > radius);
  const labels = isSmall ? small : parts(distance, grid, radius, CLEARLY);
  const word = (place) => (colours[4 * place] << 16) | (colours[4 * place + 1] << 8) | colours[4 * place + 2];
  const colour = word(from);
  const found = new Uint8Array(labels.length);
  spread([from], grid, found, (place) => labels[place] === labels[from] && word(place) === colour);
  return placesOf(found);
}

function placesOf(marks) {
  const places = [];
  for (let place = 0; place < marks.length; place++) if (marks[place]) places.push(place);
  return Int32Array.from(places);
}

/** The place itself, or the nearest beside the line that it is on, or -1. */
function offLine(lines, grid, start, radius) {
  const [x, y] = [start % grid, Math.floor(start / grid)];
  let [best, least] = [-1, Infinity];
  const reach = lines[start] ? radius + 1 : 0;
  for (let toY = Math.max(0, y - reach); toY <= Math.min(grid - 1, y + reach); toY++) {
    for (let toX = Math.max(0, x - reach); toX <= Math.min(grid - 1, x + reach); toX++) {
      const far = (toX - x) ** 2 + (toY - y) ** 2;
      if (!lines[toY * grid + toX] && far < least) [best, least] = [toY * grid + toX, far];
    }
  }
  return best;
}

/** Of every pixel to the nearest line, along rows, columns and diagonals alike; at most `most`. */
function distances(lines, grid, most) {
  const wide = grid + 2; // with a border, which is no line
  const distance = new Uint8Array(wide * wide).fill(most);
  const at = (place) => (Math.floor(place / grid) + 1) * wide + (place % grid) + 1;
  for (let place = 0; place < lines.length; place++) if (lines[place]) distance[at(place)] = 0;
  const lower = (place, way) => {
    const nearest = Math.min(
      distance[place - way], distance[place - way * wide], distance[place - way * (wide - 1)], distance[place - way * (wide + 1)]);
    distance[place] = Math.min(distance[place], nearest + 1);
  };
  for (let place = 0; place < lines.length; place++) lower(at(place), 1);
  for (let place = lines.length - 1; place >= 0; place--) lower(at(place), -1);
  return lines.map((_, place) => distance[at(place)]);
}

/**
 * A number for every pixel off the lines, the same all over a part; 0 on lines.
 *
 * A watershed of the distance to lines, from wide places down to narrow ones: two parts that meet
 * become one, unless they meet within `radius` of a line and both have a place that is farther from
 * lines by `depth`. Source: Grimaud, A new measure of contrast: dynamics, 1992.
 */
function parts(distance, grid, radius, depth) {
  const labels = new Int32Array(distance.length);
  const [parents, peaks] = [[0], [0]];
  const root = (label) => (parents[label] === label ? label : (parents[label] = root(parents[label])));
  const meet = (one, other, level) => {
    if (!labels[one] || !labels[other] || Math.min(distance[one], distance[other]) !== level) return;
    const [low, high] = [root(labels[one]), root(labels[other])].sort((a, b) => peaks[a] - peaks[b] || b - a);
    if (level > radius || peaks[low] - level < depth) parents[low] = high;
  };
  for (let level = radius + CLEARLY; level > 0; level--) {
    const reaches = (place) => distance[place] >= level;
    spread(placesOf(labels), grid, labels, reaches);
    for (let place = 0; place < labels.length; place++) {
      if (labels[place] || !reaches(place)) continue;
      labels[place] = parents.push(parents.length) - 1;
      peaks.push(level);
      spread([place], grid, labels, reaches);
    }
    for (let place = 0; place < labels.length; place++) {
      if ((place + 1) % grid) meet(place, place + 1, level);
      if (place + grid < labels.length) meet(place, place + grid, level);
    }
  }
  return labels.map(root);
}

/** Carry the marks of some pixels to their unmarked neighbours, the nearest first. */
function spread(seeds, grid, marks, passes) {
  const queue = Array.from(seeds);
  const visit = (near, mark) => {
    if (marks[near] || !passes(near)) return;
    marks[near] = mark;
    queue.push(near);
  };
  for (const seed of queue) marks[seed] ||= 1;
  for (let next = 0; next < queue.length; next++) {
    const place = queue[next];
    const x = place % grid;
    if (x > 0) visit(place - 1, marks[place]);
    if (x < grid - 1) visit(place + 1, marks[place]);
    if (place >= grid) visit(place - grid, marks[place]);
    if (place < marks.length - grid) visit(place + grid, marks[place]);
  }
}
