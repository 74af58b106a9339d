// A drawing as the network gets it: hard pixels on a small grid, like the drawings it was trained on.
// Lines lie over colours, as in a colouring book; where all is one layer, there are no lines.

import { region } from "./regions.js";
import { resample } from "./resample.js";

const FLAT = 0.3; // of a drawing's pixels equal their neighbours; of photos 1 in 20 has so many

export class Drawing {
  /** @param {{grid: number, paper: string, line: ?string}} pad from the manifest */
  constructor(pad) {
    this.grid = pad.grid;
    this.paper = bytes(pad.paper);
    this.ink = pad.line && bytes(pad.line);
    this.colours = new Uint8ClampedArray(4 * pad.grid * pad.grid); // RGBA, opaque
    this.lines = new Uint8Array(pad.grid * pad.grid);
    this.clear();
  }

  clear() {
    this.lines.fill(0);
    for (let place = 0; place < this.lines.length; place++) this.colour(place, this.paper);
  }

  colour(place, [r, g, b]) {
    this.colours.set([r, g, b, 255], 4 * place);
  }

  /** Do what one has done: a stroke, a filling, a picture, a clearing. */
  apply(action) {
    if (action.kind === "clear") this.clear();
    if (action.kind === "picture") this.load(action.pixels);
    if (action.kind === "fill") for (const place of action.places) this.colour(place, this.apart(action.colour));
    if (action.kind === "stroke") {
      const { points } = action;
      points.forEach((point, index) => this.line(points[Math.max(0, index - 1)], point, action));
    }
  }

  /** Take the place of everything: RGBA bytes of the grid's size; what has the lines' colour is line. */
  load(pixels) {
    for (let place = 0; place < this.lines.length; place++) {
      const colour = pixels.slice(4 * place, 4 * place + 3);
      this.lines[place] = this.ink && isEqual(colour, this.ink) ? 1 : 0;
      this.colour(place, this.lines[place] ? this.paper : colour);
    }
  }

  /** A straight piece of a stroke, round and `width` grid pixels wide. */
  line([fromX, fromY], [toX, toY], { tool, width, colour }) {
    const paint = tool === "eraser" ? this.paper : this.apart(colour);
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(toX - fromX), Math.abs(toY - fromY))));
    for (let step = 0; step <= steps; step++) {
      const [x, y] = [fromX + ((toX - fromX) * step) / steps, fromY + ((toY - fromY) * step) / steps];
      this.stamp(Math.floor(x), Math.floor(y), width, (place) => {
        if (tool !== "brush") this.lines[place] = tool === "pen" ? 1 : 0;
        if (tool !== "pen") this.colour(place, paint);
      });
    }
  }

  stamp(x, y, width, set) {
    const radius = width / 2;
    const [first, last] = [Math.ceil(-radius), Math.ceil(radius)];
    for (let oy = first; oy < last || oy === first; oy++) {
      for (let ox = first; ox < last || ox === first; ox++) {
        const inside = width < 3 || Math.hypot(ox + (width % 2 ? 0 : 0.5), oy + (width % 2 ? 0 : 0.5)) <= radius;
        const [atX, atY] = [x + ox, y + oy];
        if (inside && atX >= 0 && atY >= 0 && atX < this.grid && atY < this.grid) set(atY * this.grid + atX);
      }
    }
  }

  /** A colour as paint: that of lines would be taken for lines, so the next one takes its place. */
  apart(colour) {
    const paint = bytes(colour);
    return this.ink && isEqual(paint, this.ink) ? paint.map((level) => level ^ 1) : paint;
  }

  /** What a bucket of paint that is emptied at a point fills: see `region`. */
  region([x, y]) {
    return region(this, this.place(x, y));
  }

  place(x, y) {
    const within = (value) => Math.max(0, Math.min(this.grid - 1, Math.floor(value)));
    return within(y) * this.grid + within(x);
  }

  /** "#rrggbb" of what is seen at a point. */
  look([x, y]) {
    const place = this.place(x, y);
    return text(this.lines[place] ? this.ink : this.colours.slice(4 * place, 4 * place + 3));
  }

  /** RGBA bytes of the grid. */
  get pixels() {
    const pixels = this.colours.slice();
    for (let place = 0; place < this.lines.length; place++) if (this.lines[place]) pixels.set(this.ink, 4 * place);
    return pixels;
  }

  /** The network's input, `size` x `size`. */
  input(size) {
    const data = resample(this.pixels, this.grid, this.grid, size, size);
    return { data, width: size, height: size };
  }
}

/** Whether RGBA bytes have the flat areas of a drawing, which photos lack. */
export function isDrawn(pixels, grid) {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, grid * grid);
  let equal = 0;
  for (let y = 1; y < grid; y++) {
    for (let place = y * grid + 1; place < (y + 1) * grid; place++) {
      if (words[place] === words[place - 1] && words[place] === words[place - grid]) equal++;
    }
  }
  return equal >= FLAT * (grid - 1) ** 2;
}

/** "#rrggbb" -> [r, g, b] */
export function bytes(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}

/** [r, g, b] -> "#rrggbb" */
export function text(colour) {
  return `#${Array.from(colour, (level) => level.toString(16).padStart(2, "0")).join("")}`;
}

function isEqual(one, other) {
  return one.every((level, channel) => level === other[channel]);
}
