// The tools of the drawing pad: which there are depends on what the network takes.

import { isDrawn, text } from "./drawing.js";
import { Pad } from "./pad.js";
import { fitted } from "./photo.js";

const element = (id) => document.getElementById(id);

const KEYS = { p: "pen", b: "brush", f: "bucket", i: "dropper", e: "eraser" };
const USUAL = { pen: 0, brush: 1, eraser: 1 }; // which of three widths one begins with

/** Widths of the tools in pixels of the grid: fine, medium and thick. */
function widths({ grid, width, line, colours }) {
  const scaled = (medium, ...factors) => factors.map((factor) => Math.max(1, Math.round(medium * factor)));
  const isSketch = colours.length === 1;
  return {
    pen: isSketch ? [width, width, width] : scaled(width, 1, 2, 4),
    brush: scaled(line ? grid / 20 : width, 1 / 3, 1, 2.3),
    eraser: scaled(grid / 14, 0.45, 1, 2.3),
  };
}

/**
 * At most one of some buttons is on; arrow keys move between them.
 *
 * @param {HTMLElement[]} buttons
 * @param {(button: HTMLElement) => void} chosen called when somebody turns one on
 * @returns {(button: ?HTMLElement) => void} shows one as turned on, or none
 */
function radios(buttons, chosen) {
  const mark = (one) => {
    for (const each of buttons) {
      each.setAttribute("aria-checked", String(each === one));
      each.tabIndex = each === (one ?? buttons[0]) ? 0 : -1;
    }
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => chosen(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons.at((index + step) % buttons.length);
      next.focus();
      chosen(next);
    });
  });
  return mark;
}

function swatch(colour, index) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", title: `Colour ${index + 1}: ${colour}` });
  button.setAttribute("role", "radio");
  button.setAttribute("aria-label", `Colour ${index + 1}, ${colour}`);
  button.style.setProperty("--colour", colour);
  button.dataset.colour = colour;
  return button;
}

class Tools {
  constructor(spec, changed) {
    const isColoured = spec.colours.length > 1;
    this.spec = spec;
    this.widths = widths(spec);
    this.sizes = { ...USUAL };
    this.paint = spec.line ? "bucket" : "brush"; // what paints where a colour is chosen
    const hears = { changed: () => this.note(changed), picked: (colour) => this.take(colour) };
    this.pad = new Pad({ below: element("paint"), above: element("pad") }, element("cursor"), spec, hears);
    const there = { pen: spec.line, brush: isColoured, bucket: isColoured, dropper: isColoured, eraser: true };
    const tools = Object.keys(there).filter((name) => {
      element(name).hidden = !there[name];
      return there[name];
    });
    this.markTool = radios(tools.map(element), ({ id }) => this.use(id));
    this.sizeButtons = [...element("sizes").children];
    this.markSize = radios(this.sizeButtons, (button) => this.resize(this.sizeButtons.indexOf(button)));
    element("sizes").hidden = !isColoured;
    element("swatches").hidden = !isColoured;
    element("any").hidden = !spec.free;
    this.swatches = spec.colours.map(swatch);
    element("swatches").replaceChildren(...this.swatches);
    this.markSwatch = radios(this.swatches, (button) => this.take(button.dataset.colour));
    element("any-colour").addEventListener("input", (event) => this.take(event.target.value));
    element("any-colour").addEventListener("click", (event) => this.take(event.target.value));
    if (isColoured) this.take(spec.colours[0]);
    this.use(tools[0]);
    this.listen();
  }

  listen() {
    const { pad } = this;
    element("undo").addEventListener("click", () => pad.undo());
    element("redo").addEventListener("click", () => pad.redo());
    element("clear").addEventListener("click", () => pad.clear());
    document.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) pad.redo();
      else pad.undo();
    });
    // letters count where one draws, and nowhere else: elsewhere they may mean something
    element("pad").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const tool = KEYS[event.key.toLowerCase()];
      if (tool && !element(tool).hidden) this.use(tool);
      const size = this.sizes[pad.tool] + { "[": -1, "]": 1 }[event.key];
      if (size in this.sizeButtons) this.resize(size);
    });
  }

  note(changed) {
    const { pad } = this;
    element("undo").disabled = !pad.done.length;
    element("redo").disabled = !pad.undone.length;
    element("clear").disabled = pad.isEmpty;
    element("hint").hidden = !pad.isEmpty;
    changed();
  }

  use(tool) {
    const { pad } = this;
    pad.end();
    pad.tool = element("drawing").dataset.tool = tool;
    document.body.classList.toggle("picking", tool === "dropper");
    if (tool === "brush" || tool === "bucket") this.paint = tool;
    this.markTool(element(tool));
    const hasSize = tool in this.widths;
    for (const button of this.sizeButtons) button.disabled = !hasSize;
    if (hasSize) this.resize(this.sizes[tool]);
    else this.markSize(null);
    const { line, paper } = this.spec;
    element("drawing").style.setProperty("--ink", { pen: line, eraser: paper }[tool] ?? pad.colour);
  }

  resize(index) {
    this.sizes[this.pad.tool] = index;
    this.pad.width = this.widths[this.pad.tool][index];
    this.markSize(this.sizeButtons[index]);
  }

  /** Paint with a colour from now on. */
  take(colour) {
    this.pad.colour = colour;
    element("any-colour").value = colour;
    const known = this.swatches.find((button) => button.dataset.colour === colour);
    element("any").classList.toggle("chosen", !known);
    element("any").style.setProperty("--colour", colour);
    this.markSwatch(known);
    this.use(this.paint);
  }
}

/** A drawing pad with its tools; gives `{input(), isEmpty, isLive, pixels(), picture(bitmap)}`. */
export function sketching(manifest, changed) {
  const { size, pad: spec } = manifest;
  element("drawing").hidden = false;
  const tools = new Tools(spec, changed);
  const { pad } = tools;
  return {
    input: () => pad.input(size),
    get isEmpty() { return pad.isEmpty; },
    isLive: false,
    pixels: () => ({ data: pad.drawing.pixels, width: spec.grid, height: spec.grid }),
    shown: (side) => pad.view.picture(side),
    /** Take a picture as the drawing; says what is expected where it is none. */
    picture(bitmap) {
      const pixels = fitted(bitmap, spec.grid, spec.grid, spec.paper);
      pad.load(pixels);
      return isDrawn(pixels, spec.grid) ? "" : `This looks like a photo, but the network expects ${expected(spec)}.`;
    },
    /** While the dropper is out: take the colour of an example where one clicks on it. */
    pick(image, event) {
      if (pad.tool !== "dropper" || !event.detail) return false;
      const box = image.getBoundingClientRect();
      const canvas = new OffscreenCanvas(1, 1);
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return false;
      const context = canvas.getContext("2d");
      const at = (share, length) => Math.floor(share * length);
      context.drawImage(image, at(x, image.naturalWidth), at(y, image.naturalHeight), 1, 1, 0, 0, 1, 1);
      const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
      tools.take(text([r, g, b]));
      return true;
    },
  };
}

function expected({ colours, line }) {
  if (line && colours.length > 1) return "a drawing: thin dark lines and flat colours on white";
  return colours.length === 1 ? "lines on plain paper" : "flat areas in the colours that are offered here";
}
