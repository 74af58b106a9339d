// The page: an input, a model, and the picture that it makes; everything else is in its own file.

import { examples, files, photographing, sketching, take } from "./controls.js";
import { Engine } from "./engine.js";
import { Front } from "./front.js";
import { isolate } from "./isolation.js";
import { megabytes, readManifest } from "./manifest.js";
import { Split } from "./split.js";
import { chooseBackend } from "./backend.js";

const SLOW = 400; // ms a picture, beyond which nobody can follow a pen
const FLUENT = 100;
const TIMED = 4; // runs that a speed needs
const PREFETCHED = 12e6; // bytes of models that are loaded before anybody asks

const element = (id) => document.getElementById(id);

class Page {
  constructor(manifest) {
    this.manifest = manifest;
    this.engine = new Engine("wasm");
    this.front = new Front(manifest, (model) => this.pick(model));
    this.model = this.front.first;
    this.other = this.front.counterpart(this.model);
    this.comparing = false;
    this.isRunning = false;
    this.isDirty = false;
    this.pictures = 0;
    this.advised = false;
    const changed = () => this.refresh();
    const tell = (text) => this.tell(text);
    this.source =
      manifest.input === "sketch" ? sketching(manifest, changed) : photographing(manifest, changed, tell);
    examples(manifest, this.source, tell);
    files(this.source, tell);
    this.split = new Split(element("frame"), element("handle"));
    this.dress();
    this.listen();
    this.show();
  }

  // -- what is seen ---------------------------------------------------------------------------

  dress() {
    const { manifest } = this;
    const isSketch = manifest.input === "sketch";
    document.title = `${manifest.title} · gancompress`;
    element("task").textContent = manifest.title;
    element("pixels").textContent = ` · ${manifest.size} × ${manifest.size}`;
    element("headline").textContent = isSketch ? "Draw, and see." : "Drop a picture, and see.";
    document.querySelector(".front").hidden = manifest.models.length < 2 && !manifest.models[0].macs;
  }

  /** Everything that depends on the models, but the pictures. */
  show() {
    const { engine, front, model } = this;
    const threads = engine.backend === "wasm" ? engine.threads : 0;
    front.show(model, engine.milliseconds(model), threads);
    front.showSpeeds((each) => engine.milliseconds(each));
    element("other").value = String(this.manifest.models.indexOf(this.other));
    element("handle").hidden = element("left").hidden = !this.comparing;
    element("left-tag").hidden = element("right-tag").hidden = !this.comparing;
    element("left-tag").textContent = this.other.short;
    element("right-tag").textContent = model.short;
    element("backend").textContent =
      engine.backend === "wasm" ? `WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}.` : "WebGPU.";
  }

  state(text) {
    element("engine").textContent = text;
  }

  tell(text, { retry, faster } = {}) {
    element("message").hidden = !text;
    element("message-text").textContent = text;
    element("retry").hidden = !retry;
    element("faster").hidden = !faster;
    if (faster) element("faster").textContent = `Take ${faster.short}`;
    this.onRetry = retry;
    this.suggested = faster;
  }

  veil(text, received = 0, total = 0) {
    element("veil").hidden = !text;
    element("veil-text").textContent = text;
    if (total) element("progress").value = received / total;
    else element("progress").removeAttribute("value");
  }

  // -- what one does --------------------------------------------------------------------------

  listen() {
    element("compare").addEventListener("change", (event) => {
      this.comparing = event.target.checked;
      this.show();
      this.refresh();
    });
    element("other").addEventListener("change", (event) => {
      this.other = this.manifest.models[Number(event.target.value)];
      this.comparing = element("compare").checked = true;
      this.show();
      this.refresh();
    });
    element("save").addEventListener("click", () => save(element("right"), `${this.manifest.title}-${this.model.name}.png`));
    element("save-input").addEventListener("click", () => this.saveInput());
    element("dismiss").addEventListener("click", () => this.tell(""));
    element("retry").addEventListener("click", () => this.onRetry?.());
    element("faster").addEventListener("click", () => {
      const model = this.suggested;
      this.tell("");
      this.pick(model);
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      const model = /^[1-9]$/.test(event.key) && this.manifest.models[Number(event.key) - 1];
      if (model) this.pick(model);
    });
  }

  pick(model) {
    if (model === this.model) return;
    this.model = model;
    this.advised = false;
    this.show();
    this.refresh();
    element("status").textContent = `Model: ${model.label}`;
  }

  saveInput() {
    const { data, width, height } = this.source.pixels();
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
    save(canvas, `${this.manifest.title}-input.png`);
  }

  // -- what is computed -----------------------------------------------------------------------

  /** Something changed: make the picture anew, as soon as the one being made is done. */
  refresh() {
    this.isDirty = true;
    if (!this.isRunning) this.work();
  }

  async work() {
    this.isRunning = true;
    try {
      while (this.isDirty || this.wantsTiming()) {
        const changed = this.isDirty;
        this.isDirty = false;
        await this.once(changed);
        if (this.source.isLive) {
          this.isDirty = true;
          await new Promise(requestAnimationFrame);
        }
      }
    } catch (error) {
      this.veil("");
      this.state("Stopped");
      const retry = () => {
        this.tell("");
        this.engine.restart();
        this.refresh();
      };
      this.tell(`The picture could not be made: ${error.message}`, { retry });
    } finally {
      this.isRunning = false;
    }
    if (this.isDirty && !this.onRetry) this.work(); // changed while the last words were said
  }

  /** Whether the model has not been timed often enough, and there is something to time it with. */
  wantsTiming() {
    return !this.source.isEmpty && this.engine.isReady(this.model) && this.engine.runs(this.model) < TIMED;
  }

  async once(changed) {
    const { model, engine } = this;
    await this.ready(model);
    if (this.model !== model) {
      this.isDirty = true;
      return;
    }
    const input = this.source.input();
    element("save").disabled = element("save-input").disabled = !input || this.source.isEmpty;
    if (!input || this.source.isEmpty) {
      for (const id of ["right", "left"]) blank(element(id));
      this.state("Ready");
      return;
    }
    paint(element("right"), await engine.run(model, input), model);
    if (this.comparing && changed) await this.compare(input);
    this.pictures += 1;
    element("main").dataset.pictures = this.pictures;
    this.state(this.source.isLive ? "Live" : "Ready");
    this.show();
    this.advise();
    this.later();
  }

  async compare(input) {
    const { other, engine } = this;
    await this.ready(other);
    if (other === this.other) paint(element("left"), await engine.run(other, input), other);
  }

  async ready(model) {
    const { engine } = this;
    if (engine.isReady(model)) return;
    this.state("Loading");
    const veil = setTimeout(() => this.veil(`Loading ${model.label}`), 150);
    let last = 0;
    try {
      await engine.load(model, (what, received, total) => {
        if (performance.now() - last < 50 && received < total) return;
        last = performance.now();
        if (!element("veil").hidden) {
          const size = total ? ` of ${megabytes(total)}` : "";
          this.veil(`Loading ${what}: ${megabytes(received)}${size}`, received, total);
        }
      });
    } finally {
      clearTimeout(veil);
      this.veil("");
    }
  }

  /** Say once for each model that it cannot follow, and which one could. */
  advise() {
    const { engine, front, model } = this;
    const milliseconds = engine.milliseconds(model);
    if (this.advised || milliseconds === null || milliseconds < SLOW) return;
    this.advised = true;
    const faster = front.within(FLUENT, model, milliseconds);
    const seconds = (milliseconds / 1000).toFixed(1);
    const text = `${model.short} takes ${seconds} s a picture here: too slow to follow ${this.source.isLive ? "a webcam" : "a pen"}.`;
    this.tell(text, { faster: faster === model ? undefined : faster });
  }

  /** After the first picture: see whether a GPU is faster, then have the other models ready. */
  async later() {
    if (this.isSettled) return;
    this.isSettled = true;
    const input = this.source.input();
    const faster = await chooseBackend(this.engine, this.model, input).catch(() => null);
    if (faster) {
      this.engine.close();
      this.engine = faster;
      this.isDirty = true;
      this.show();
      this.refresh();
    }
    let bytes = 0;
    for (const model of this.manifest.models) {
      bytes += model.bytes;
      if (bytes > PREFETCHED) return;
      await this.engine.load(model).catch(() => {}); // asked for again when somebody wants it
    }
    element("main").dataset.prefetched = "yes";
  }
}

/** Show an image in a canvas, at the image's own size. */
function paint(canvas, image, model) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    [canvas.width, canvas.height] = [image.width, image.height];
    element("frame").style.setProperty("--ratio", `${image.width} / ${image.height}`);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.dataset.model = model.name;
}

function blank(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  delete canvas.dataset.model;
}

async function save(canvas, name) {
  const blob = canvas.convertToBlob
    ? await canvas.convertToBlob({ type: "image/png" })
    : await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function main() {
  const reason = await isolate();
  if (reason) {
    element("isolation").textContent = reason;
    element("isolation").hidden = false;
  }
  let page;
  try {
    page = new Page(await readManifest());
  } catch (error) {
    element("engine").textContent = "Stopped";
    element("message-text").textContent = `The page cannot begin: ${error.message}`;
    element("message").hidden = false;
    return;
  }
  const [example] = page.manifest.examples;
  if (example) await take(example.file, page.source, (text) => page.tell(text));
  page.refresh();
}

main();
