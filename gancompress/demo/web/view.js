// What one sees of a drawing: its strokes as they were drawn, in the screen's own pixels.

import { enlargedColours, enlargedLines } from "./enlarge.js";

const LEAST = 1.6; // pixels of the page: the thinnest stroke that is shown

export class View {
  /**
   * @param {HTMLCanvasElement} below shows the colours
   * @param {HTMLCanvasElement} above shows the lines
   * @param {object} spec the manifest's pad
   */
  constructor(below, above, spec) {
    Object.assign(this, { spec, canvases: [below, above] });
    [this.colours, this.lines] = this.canvases.map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
  }

  get side() {
    return this.canvases[0].width;
  }

  /** Take the size that the page gives; forgets what was shown. */
  clear() {
    const [below] = this.canvases;
    const side = Math.round(below.clientWidth * devicePixelRatio) || below.width;
    for (const canvas of this.canvases) canvas.width = canvas.height = side; // clears, too
    this.blank();
  }

  blank() {
    this.lines.clearRect(0, 0, this.side, this.side);
    this.colours.fillStyle = this.spec.paper;
    this.colours.fillRect(0, 0, this.side, this.side);
  }

  /** What a stroke adds with one of its points: a straight piece from the point before. */
  piece({ tool, width, colour, points }, index) {
    const line = (context, style, operation = "source-over") => {
      const scale = this.side / this.spec.grid;
      context.globalCompositeOperation = operation;
      context.strokeStyle = style;
      context.lineWidth = Math.max(width * scale, LEAST * devicePixelRatio);
      context.lineCap = "round";
      context.beginPath();
      const [[fromX, fromY], [x, y]] = [points[Math.max(0, index - 1)], points[index]];
      context.moveTo(fromX * scale, fromY * scale);
      context.lineTo(x * scale, y * scale + (index ? 0 : 0.01)); // a dot, too, has a length
      context.stroke();
      context.globalCompositeOperation = "source-over";
    };
    if (tool === "pen") line(this.lines, this.spec.line);
    if (tool === "brush") line(this.colours, colour);
    if (tool !== "eraser") return;
    line(this.lines, "#000", "destination-out");
    line(this.colours, this.spec.paper);
  }

  /** Show the lines that the grid has. */
  showLines(drawing) {
    if (!drawing.ink) return;
    const { side } = this;
    const image = new ImageData(side, side);
    enlargedLines(drawing, side).forEach((opacity, place) =>
      opacity && image.data.set([...drawing.ink, opacity], 4 * place));
    this.lines.putImageData(image, 0, 0);
  }

  /** Show the colours that the grid has, up to the lines that are shown. */
  showColours(drawing) {
    const { side } = this;
    const { data } = this.lines.getImageData(0, 0, side, side);
    const opacity = new Uint8ClampedArray(side * side);
    for (let place = 0; place < opacity.length; place++) opacity[place] = data[4 * place + 3];
    this.colours.putImageData(new ImageData(enlargedColours(drawing, opacity, side), side, side), 0, 0);
  }

  /** Both at a size of its own, for a file. */
  picture(side) {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    for (const shown of this.canvases) context.drawImage(shown, 0, 0, side, side);
    return canvas;
  }
}
