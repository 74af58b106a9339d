// The drawing pad: pointer and keyboard, undo and redo, and a sharp view of what is drawn.

import { Drawing } from "./drawing.js";

const KEPT = 100; // actions that can be undone, at least
const ERASER = 1 / 14; // of the pad's side
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /**
   * @param {HTMLCanvasElement} canvas where one draws
   * @param {HTMLElement} cursor shown while the keyboard draws
   * @param {object} spec the manifest's pad
   * @param {() => void} changed called after every change of the drawing
   */
  constructor(canvas, cursor, spec, changed) {
    Object.assign(this, { canvas, cursor, spec, changed });
    this.drawing = new Drawing(spec);
    this.done = []; // what was done, since the beginning: strokes, pictures, clearings
    this.undone = [];
    this.stroke = null;
    this.pointer = null; // that draws; others, such as a palm, do not
    this.eraser = false;
    this.colour = spec.colours[0];
    this.place = [spec.grid / 2, spec.grid / 2];
    this.context = canvas.getContext("2d");
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  get isEmpty() {
    const last = this.done.at(-1);
    return !last || last.kind === "clear";
  }

  input(size) {
    return this.drawing.input(size);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary || this.stroke) return;
      event.preventDefault();
      this.pointer = event.pointerId;
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.cursor.hidden = true;
      this.begin(this.locate(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.stroke || event.pointerId !== this.pointer) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length ? moves : [event]) this.extend(this.locate(move));
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, (event) => event.pointerId === this.pointer && this.end());
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.end();
      this.cursor.hidden = true;
    });
  }

  locate(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.spec.grid / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const way = KEYS[event.key];
    if (way) {
      const step = event.shiftKey ? 1 : Math.max(1, Math.round(this.spec.grid / 40));
      this.place = this.place.map((value, axis) =>
        Math.max(0, Math.min(this.spec.grid - 1, value + step * way[axis])));
      if (this.stroke) this.extend(this.place);
    } else if (event.key === " " || event.key === "Enter") {
      if (this.stroke) this.end();
      else this.begin(this.place);
    } else return;
    event.preventDefault();
    this.showCursor();
  }

  showCursor() {
    this.cursor.hidden = false;
    this.cursor.classList.toggle("down", this.stroke !== null);
    this.cursor.style.left = `${(100 * this.place[0]) / this.spec.grid}%`;
    this.cursor.style.top = `${(100 * this.place[1]) / this.spec.grid}%`;
  }

  begin(point) {
    const { spec } = this;
    const width = this.eraser ? Math.round(spec.grid * ERASER) : spec.width;
    const colour = this.eraser ? spec.paper : this.colour;
    this.stroke = { kind: "stroke", width, colour, points: [point] };
    this.done.push(this.stroke);
    this.undone = [];
    this.put(this.stroke, 0);
    this.changed();
  }

  extend(point) {
    const last = this.stroke.points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) < 0.35) return;
    this.stroke.points.push(point);
    this.put(this.stroke, this.stroke.points.length - 1);
    this.changed();
  }

  end() {
    if (!this.stroke) return;
    this.stroke = this.pointer = null;
    this.cursor.classList.remove("down");
    this.changed();
  }

  /** Draw a stroke from its point `from` on, on the grid and on the screen. */
  put({ width, colour, points }, from) {
    for (let i = Math.max(from, 1); i < points.length; i++) {
      this.drawing.line(points[i - 1], points[i], width, colour);
    }
    if (points.length === 1) this.drawing.line(points[0], points[0], width, colour);
    this.ink({ width, colour, points }, from);
  }

  ink({ width, colour, points }, from) {
    const { context } = this;
    const scale = this.canvas.width / this.spec.grid;
    const least = 1.6 * devicePixelRatio;
    context.strokeStyle = colour;
    context.lineWidth = Math.max(width * scale, least);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    const [x, y] = points[Math.max(0, from - 1)];
    context.moveTo(x * scale, y * scale);
    for (const [toX, toY] of points.slice(Math.max(from, 1))) context.lineTo(toX * scale, toY * scale);
    if (points.length === 1) context.lineTo(x * scale, y * scale + 0.01);
    context.stroke();
  }

  redraw() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (side && this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    this.drawing.clear();
    this.blank();
    const start = this.done.findLastIndex((action) => action.kind !== "stroke");
    for (const action of this.done.slice(Math.max(start, 0))) {
      if (action.kind === "stroke") this.put(action, 0);
      if (action.kind === "picture") this.show(action);
    }
  }

  blank() {
    this.context.fillStyle = this.spec.paper;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  show({ pixels, bitmap }) {
    this.drawing.replace(pixels);
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
  }

  act(action) {
    this.end();
    this.done.push(action);
    this.undone = [];
    // what is forgotten ends before something that covers it all
    const rest = this.done.findIndex((each, i) => i >= this.done.length - KEPT && each.kind !== "stroke");
    if (this.done.length > KEPT) this.done.splice(0, rest);
    this.redraw();
    this.changed();
  }

  clear() {
    if (!this.isEmpty) this.act({ kind: "clear" });
  }

  /** Take a picture of the grid's size as the drawing. */
  load(pixels) {
    const bitmap = new OffscreenCanvas(this.spec.grid, this.spec.grid);
    const image = new ImageData(new Uint8ClampedArray(pixels), this.spec.grid, this.spec.grid);
    bitmap.getContext("2d").putImageData(image, 0, 0);
    this.act({ kind: "picture", pixels, bitmap });
  }

  undo() {
    this.move(this.done, this.undone);
  }

  redo() {
    this.move(this.undone, this.done);
  }

  move(from, to) {
    this.end();
    if (!from.length) return;
    to.push(from.pop());
    this.redraw();
    this.changed();
  }
}
