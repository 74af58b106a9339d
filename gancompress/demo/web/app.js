// The page: an input, a model, and the picture that it makes; everything else is in its own file.

import { chooseBackend } from "./backend.js";
import { examples, files, photographing, take } from "./controls.js";
import { Cancelled, Engine } from "./engine.js";
import { Front } from "./front.js";
import { isolate } from "./isolation.js";
import { megabytes, readManifest } from "./manifest.js";
import { resample } from "./resample.js";
import { Split } from "./split.js";
import { sketching } from "./tools.js";

const SLOW = 400; // ms a picture, beyond which nobody can follow a pen
const FLUENT = 100;
const TEDIOUS = 3000; // ms, beyond which one waits for a single picture
const TIMED = 4; // runs that a speed needs
const PREFETCHED = 12e6; // bytes of models that are loaded before anybody asks
const SAVED = 512; // pixels: the shorter side of a picture in a file, at least

const SAVING = ["save", "save-both", "save-input"];

const element = (id) => document.getElementById(id);

class Page {
  constructor(manifest) {
    this.manifest = manifest;
    this.engine = new Engine("wasm");
    this.next = null; // an engine that is faster, from the next picture on
    this.front = new Front(manifest, (model) => this.pick(model));
    this.model = this.front.first;
    this.other = this.front.counterpart(this.model);
    this.comparing = false;
    this.failed = new Set(); // files that are not asked for again by themselves
    this.coming = new Set();
    this.isRunning = this.isDirty = this.isLeftDirty = this.isSettled = false;
    this.pictures = 0;
    this.advised = new Set();
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
    const isPainting = manifest.pad?.colours.length > 1;
    document.body.classList.toggle("painting", isPainting);
    element("headline").textContent = isPainting ? "Paint, and see." : isSketch ? "Draw, and see." : "Drop a picture, and see.";
    const isOne = manifest.models.length < 2;
    for (const item of [document.querySelector(".rail"), document.querySelector(".switch"), element("other")]) {
      item.hidden = isOne;
    }
  }

  /** Everything that depends on the models, but the pictures. */
  show() {
    const { engine, front, model } = this;
    const threads = engine.backend === "wasm" ? engine.threads : 0;
    front.show(model, engine.milliseconds(model), threads);
    front.showSpeeds((each) => engine.milliseconds(each));
    element("other").value = String(this.manifest.models.indexOf(this.other));
    element("compare").checked = this.comparing;
    element("frame").classList.toggle("comparing", this.comparing);
    element("handle").hidden = element("left").hidden = !this.comparing;
    element("left-tag").hidden = element("right-tag").hidden = !this.comparing;
    element("left-tag").textContent = this.other.short;
    element("right-tag").textContent = model.short;
    element("backend").textContent =
      engine.backend === "wasm" ? `WebAssembly, ${threads === 1 ? "one thread" : `${threads} threads`}.` : "WebGPU.";
  }

  state(text) {
    if (element("engine").textContent === text) return;
    element("engine").textContent = text;
    element("frame").setAttribute("aria-busy", String(text === "Computing" || text === "Loading"));
    element("status").textContent = text === "Ready" ? `Ready: ${this.model.label}` : text;
  }

  /** Show a message; an empty one hides it. Advice never takes the place of an error. */
  tell(text, { retry, faster, isAdvice = false } = {}) {
    const message = element("message");
    if (isAdvice && !message.hidden && !this.isAdvice) return;
    if (!text && message.contains(document.activeElement)) element("slider").focus();
    message.hidden = !text;
    element("message-text").textContent = text;
    element("retry").hidden = !retry;
    element("faster").hidden = !faster;
    if (faster) element("faster").textContent = `Take ${faster.short}`;
    this.isAdvice = isAdvice;
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
    element("compare").addEventListener("change", (event) => this.compareWith(this.other, event.target.checked));
    element("other").addEventListener("change", (event) =>
      this.compareWith(this.manifest.models[Number(event.target.value)], true));
    element("save").addEventListener("click", () => this.save());
    element("save-both").addEventListener("click", () => this.save(true));
    element("save-input").addEventListener("click", () => this.saveInput());
    element("dismiss").addEventListener("click", () => this.tell(""));
    element("retry").addEventListener("click", () => this.onRetry?.());
    element("faster").addEventListener("click", () => this.pick(this.suggested));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      const model = /^[1-9]$/.test(event.key) && this.manifest.models[Number(event.key) - 1];
      if (model) this.pick(model);
    });
  }

  pick(model) {
    if (this.isAdvice || this.onRetry) this.tell("");
    this.failed.delete(model.file);
    this.model = model;
    this.veil(this.coming.has(model.file) ? `Loading ${model.label}` : "");
    this.show();
    this.refresh();
  }

  compareWith(other, isOn) {
    this.failed.delete(other.file);
    if (element("left").dataset.model !== other.name) blank(element("left"));
    this.other = other;
    this.comparing = isOn;
    this.isLeftDirty = true;
    this.show();
    this.kick();
  }

  /** The picture at a size for people, and if wanted the input to the left of it. */
  save(withInput = false) {
    const made = element("right");
    const times = Math.ceil(SAVED / Math.min(made.width, made.height));
    const [width, height] = [times * made.width, times * made.height];
    const { data } = made.getContext("2d").getImageData(0, 0, made.width, made.height);
    const left = withInput ? width : 0;
    const canvas = new OffscreenCanvas(left + width, height);
    const context = canvas.getContext("2d");
    const large = resample(data, made.width, made.height, width, height);
    context.putImageData(new ImageData(large, width, height), left, 0);
    context.imageSmoothingQuality = "high";
    if (withInput) context.drawImage(this.source.shown(height), 0, 0, width, height);
    save(canvas, `${this.manifest.title}-${made.dataset.model}${withInput ? "-and-input" : ""}.png`);
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
    this.kick();
  }

  kick() {
    if (!this.isRunning) this.work();
  }

  /** One picture after the other, while there is something to do. */
  async work() {
    this.setRunning(true);
    let again = false;
    try {
      for (let step = this.step(); step; step = this.step()) await step();
    } catch (error) {
      again = error instanceof Cancelled; // another engine goes on
      if (!again) this.fail(`The picture could not be made: ${error.message}`);
    } finally {
      this.setRunning(false);
    }
    if (again) this.refresh();
  }

  setRunning(isRunning) {
    this.isRunning = isRunning;
    element("main").toggleAttribute("data-running", isRunning);
  }

  /** What to do next, the most urgent first, or null. */
  step() {
    if (this.next) {
      this.engine.close();
      [this.engine, this.next] = [this.next, null];
      this.advised.clear();
      if (this.isAdvice) this.tell("");
      this.isDirty = true;
    }
    const input = this.source.isEmpty ? null : this.source.input();
    if (!this.isReady(this.model)) return null;
    const nextFrame = async () => {
      await new Promise(requestAnimationFrame);
      this.isDirty = true;
    };
    if (!input) {
      if (this.source.isLive) return nextFrame;
      if (this.isDirty) this.empty();
      return null;
    }
    if (this.isDirty) return () => this.right(input);
    if (this.comparing && this.isLeftDirty && this.isReady(this.other)) return () => this.left(input);
    if (this.source.isLive) return nextFrame;
    return this.wantsTiming() ? () => this.right(input) : null;
  }

  /** Whether a model can run; begins to load it where it cannot. */
  isReady(model) {
    const { engine } = this;
    if (engine.isReady(model)) return true;
    if (this.failed.has(model.file)) return false;
    if (model === this.model) this.state("Loading");
    if (!this.coming.has(model.file)) this.load(model, engine);
    return false;
  }

  async load(model, engine) {
    this.coming.add(model.file);
    const isSeen = () => model === this.model && engine === this.engine;
    const veil = setTimeout(() => isSeen() && this.veil(`Loading ${model.label}`), 150);
    let last = 0;
    try {
      await engine.load(model, (what, received, total) => {
        if (!isSeen() || (performance.now() - last < 50 && received < total)) return;
        last = performance.now();
        const size = total ? ` of ${megabytes(total)}` : "";
        this.veil(`Loading ${what}: ${megabytes(received)}${size}`, received, total);
      });
    } catch (error) {
      if (!(error instanceof Cancelled)) this.cannotLoad(model, error);
    } finally {
      clearTimeout(veil);
      this.coming.delete(model.file);
      if (!this.coming.has(this.model.file)) this.veil("");
    }
    this.kick();
  }

  cannotLoad(model, error) {
    this.failed.add(model.file);
    if (model === this.model) {
      this.fail(`${capital(model.label)} could not be loaded: ${error.message}`);
    } else if (this.comparing && model === this.other) {
      this.comparing = false;
      this.tell(`${capital(model.label)} cannot be compared: ${error.message}`);
      this.show();
    }
  }

  /** Say that there is no picture, and offer to try again. */
  fail(text) {
    this.state("Stopped");
    this.tell(text, {
      retry: () => {
        this.tell("");
        this.failed.clear();
        this.engine.restart();
        this.refresh();
      },
    });
  }

  empty() {
    this.isDirty = false;
    for (const id of ["right", "left"]) blank(element(id));
    for (const id of SAVING) element(id).disabled = true;
    this.state("Ready");
  }

  /** Whether the model has not been timed often enough; slow ones are timed less. */
  wantsTiming() {
    const milliseconds = this.engine.milliseconds(this.model) ?? 0;
    return this.engine.runs(this.model) < (milliseconds > SLOW ? 2 : TIMED);
  }

  async right(input) {
    const { model, engine } = this;
    this.isLeftDirty ||= this.isDirty;
    this.isDirty = false;
    const slow = setTimeout(() => this.state("Computing"), SLOW);
    const image = await engine.run(model, input).finally(() => clearTimeout(slow));
    paint(element("right"), image, model);
    for (const id of SAVING) element(id).disabled = false;
    if (this.onRetry) this.tell("");
    this.pictures += 1;
    element("main").dataset.pictures = this.pictures;
    this.state(this.source.isLive ? "Live" : "Ready");
    this.show();
    this.advise();
    this.later(input);
  }

  /** The picture to compare with: when there is time, so that it never keeps a pen waiting. */
  async left(input) {
    const { other, engine } = this;
    this.isLeftDirty = false;
    paint(element("left"), await engine.run(other, input), other);
    this.show();
  }

  /** Say once for each model that it cannot follow, and which one could. */
  advise() {
    const { engine, front, model } = this;
    const milliseconds = engine.milliseconds(model);
    const isStill = this.manifest.input === "photo" && !this.source.isLive;
    const limit = isStill ? TEDIOUS : SLOW;
    if (this.advised.has(model.file) || milliseconds === null || milliseconds < limit) return;
    this.advised.add(model.file);
    const faster = front.within(isStill ? SLOW : FLUENT, model, milliseconds);
    const seconds = (milliseconds / 1000).toFixed(1);
    const purpose = isStill ? "." : `: too slow to follow ${this.source.isLive ? "a webcam" : "a pen"}.`;
    const text = `${model.short} takes ${seconds} s a picture here${purpose}`;
    this.tell(text, { faster: faster === model ? undefined : faster, isAdvice: true });
  }

  /** After the first picture: see whether a GPU is faster, then have the other models ready. */
  async later(input) {
    if (this.isSettled) return;
    this.isSettled = true;
    const largest = this.manifest.models.at(-1);
    this.next = await chooseBackend(this.engine, this.model, largest, input).catch(() => null);
    if (this.next) this.kick();
    let bytes = 0;
    for (const model of this.manifest.models) {
      bytes += model.bytes;
      if (bytes > PREFETCHED) break;
      await (this.next ?? this.engine).load(model).catch(() => {}); // asked for again when wanted
    }
    if (!this.next) this.engine.forgetTimes(); // what was timed beside downloads says little
    element("main").dataset.prefetched = "yes";
    this.kick();
  }
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** Show an image in a canvas, at the image's own size. */
function paint(canvas, image, model) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    [canvas.width, canvas.height] = [image.width, image.height];
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
  try {
    const reason = await isolate();
    if (reason) {
      element("isolation").textContent = reason;
      element("isolation").hidden = false;
    }
    const page = new Page(await readManifest());
    const [example] = page.manifest.examples;
    page.refresh();
    if (example) await take(example.file, page.source, (text) => page.tell(text), true);
  } catch (error) {
    element("engine").textContent = "Stopped";
    element("message-text").textContent = `The page cannot begin: ${error.message}`;
    element("message").hidden = false;
  }
}

main();
