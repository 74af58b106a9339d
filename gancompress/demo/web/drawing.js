// A drawing as the network gets it: hard pixels on a small grid, like the lines it was trained on.

import { resample } from "./resample.js";

export class Drawing {
  /** @param {{grid: number, width: number, paper: string}} pad from the manifest */
  constructor(pad) {
    this.grid = pad.grid;
    this.paper = bytes(pad.paper);
    this.pixels = new Uint8ClampedArray(4 * pad.grid * pad.grid);
    this.clear();
  }

  clear() {
    for (let i = 0; i < this.pixels.length; i++) this.pixels[i] = i % 4 < 3 ? this.paper[i % 4] : 255;
  }

  /** Take the place of everything: RGBA bytes of the grid's size. */
  replace(pixels) {
    this.pixels.set(pixels);
  }

  /** A straight line with a round pen of `width` grid pixels. */
  line([fromX, fromY], [toX, toY], width, colour) {
    const ink = bytes(colour);
    let [x, y] = [Math.floor(fromX), Math.floor(fromY)];
    const [endX, endY] = [Math.floor(toX), Math.floor(toY)];
    const [dx, dy] = [Math.abs(endX - x), -Math.abs(endY - y)];
    const [stepX, stepY] = [x < endX ? 1 : -1, y < endY ? 1 : -1];
    let error = dx + dy;
    for (;;) {
      this.stamp(x, y, width, ink);
      if (x === endX && y === endY) return;
      const twice = 2 * error;
      if (twice >= dy) [error, x] = [error + dy, x + stepX];
      if (twice <= dx) [error, y] = [error + dx, y + stepY];
    }
  }

  stamp(x, y, width, ink) {
    const radius = width / 2;
    const [first, last] = [Math.ceil(-radius), Math.ceil(radius)];
    for (let oy = first; oy < last || oy === first; oy++) {
      for (let ox = first; ox < last || ox === first; ox++) {
        const inside = width < 3 || Math.hypot(ox + (width % 2 ? 0 : 0.5), oy + (width % 2 ? 0 : 0.5)) <= radius;
        if (inside) this.set(x + ox, y + oy, ink);
      }
    }
  }

  set(x, y, ink) {
    if (x < 0 || y < 0 || x >= this.grid || y >= this.grid) return;
    const place = 4 * (y * this.grid + x);
    for (let c = 0; c < 3; c++) this.pixels[place + c] = ink[c];
  }

  /** The network's input, `size` x `size`. */
  input(size) {
    const data = resample(this.pixels, this.grid, this.grid, size, size);
    return { data, width: size, height: size };
  }
}

/** "#rrggbb" -> [r, g, b] */
function bytes(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}
