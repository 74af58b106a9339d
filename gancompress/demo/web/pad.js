// The drawing pad: pointer and keyboard, undo and redo.

import { Drawing } from "./drawing.js";
import { View } from "./view.js";

const KEPT = 100; // actions that can be undone, at least
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STROKES = ["pen", "brush", "eraser"]; // tools that are drawn along; the others act at a point

export class Pad {
  /**
   * @param {{below: HTMLCanvasElement, above: HTMLCanvasElement}} canvases for colours and lines
   * @param {HTMLElement} cursor shows where the pointer or the keyboard is, and how wide it draws
   * @param {object} spec the manifest's pad
   * @param {{changed: () => void, picked: (colour: string) => void}} hears of every change of the
   *   drawing, and of colours that are taken from it
   */
  constructor({ below, above }, cursor, spec, hears) {
    Object.assign(this, { canvas: above, cursor, spec, hears });
    this.drawing = new Drawing(spec);
    this.view = new View(below, above, spec);
    this.done = []; // what was done, since the beginning: strokes, fillings, pictures, clearings
    this.undone = [];
    this.stroke = null;
    this.pointer = null; // that draws; others, such as a palm, do not
    this.tool = "pen";
    this.width = spec.width;
    this.colour = spec.colours[0];
    this.place = [spec.grid / 2, spec.grid / 2];
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(above);
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
      this.cursor.hidden = event.pointerType !== "mouse";
      this.begin(this.locate(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") this.showCursor(this.locate(event));
      if (!this.stroke || event.pointerId !== this.pointer) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length ? moves : [event]) this.extend(this.locate(move));
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(name, (event) => event.pointerId === this.pointer && this.end());
    }
    canvas.addEventListener("pointerleave", () => { this.cursor.hidden = true; });
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
    this.showCursor(this.place);
  }

  showCursor([x, y]) {
    const { cursor, spec } = this;
    const share = (value) => `${(100 * value) / spec.grid}%`;
    const isWide = STROKES.includes(this.tool);
    cursor.hidden = false;
    cursor.classList.toggle("down", this.stroke !== null);
    cursor.style.left = share(x);
    cursor.style.top = share(y);
    cursor.style.width = cursor.style.height = isWide ? `max(8px, ${share(this.width)})` : "";
  }

  begin(point) {
    if (this.tool === "bucket") return this.fill(point);
    if (this.tool === "dropper") return this.hears.picked(this.drawing.look(point));
    this.stroke = { kind: "stroke", tool: this.tool, width: this.width, colour: this.colour, points: [] };
    this.done.push(this.stroke);
    this.undone = [];
    this.extend(point);
  }

  extend(point) {
    const { points } = this.stroke;
    const last = points.at(-1) ?? point;
    if (points.length && Math.hypot(point[0] - last[0], point[1] - last[1]) < 0.35) return;
    points.push(point);
    this.drawing.line(last, point, this.stroke);
    this.view.piece(this.stroke, points.length - 1);
    this.hears.changed();
  }

  end() {
    this.pointer = null;
    if (!this.stroke) return;
    this.stroke = null;
    this.cursor.classList.remove("down");
    this.hears.changed();
  }

  fill(point) {
    const { drawing, colour } = this;
    const places = drawing.region(point);
    const paint = drawing.apart(colour).join();
    const isNew = places.some((place) => drawing.colours.slice(4 * place, 4 * place + 3).join() !== paint);
    if (isNew) this.act({ kind: "fill", places, colour });
  }

  act(action) {
    this.end();
    this.done.push(action);
    this.undone = [];
    // what is forgotten ends before something that covers it all
    const rest = this.done.findIndex((each, i) => i >= this.done.length - KEPT && covers(each));
    if (this.done.length > KEPT && rest > 0) this.done.splice(0, rest);
    this.perform(action);
    this.hears.changed();
  }

  /** Have the drawing and the view do an action; the view may leave colours to a later one. */
  perform(action, withColours = true) {
    this.drawing.apply(action);
    if (action.kind === "stroke") action.points.forEach((_, index) => this.view.piece(action, index));
    if (action.kind === "clear") this.view.blank();
    if (action.kind === "picture") {
      this.view.blank();
      this.view.showLines(this.drawing);
    }
    if (withColours && isGiven(action)) this.view.showColours(this.drawing);
  }

  redraw() {
    this.drawing.clear();
    this.view.clear();
    const shown = this.done.slice(Math.max(0, this.done.findLastIndex(covers)));
    const last = shown.findLast(isGiven); // its colours are those of all before it
    for (const action of shown) this.perform(action, action === last);
  }

  clear() {
    if (!this.isEmpty) this.act({ kind: "clear" });
  }

  /** Take a picture of the grid's size as the drawing. */
  load(pixels) {
    this.act({ kind: "picture", pixels });
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
    this.hears.changed();
  }
}

/** Whether nothing is seen of what was done before. */
const covers = ({ kind }) => kind === "clear" || kind === "picture";

/** Whether an action gives the grid colours that were not drawn along a path. */
const isGiven = ({ kind }) => kind === "fill" || kind === "picture";
