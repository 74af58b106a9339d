// The slider along the front of models, and what is known of the one it points to.

import { count, digits, megabytes, scoreName } from "./manifest.js";

const LOSSLESS = 70; // dB, beyond which the largest difference says more

const element = (id) => document.getElementById(id);

export class Front {
  /**
   * @param {object} manifest
   * @param {(model: object) => void} picked called when the slider points to another model
   */
  constructor(manifest, picked) {
    this.models = manifest.models;
    this.slider = element("slider");
    this.slider.max = this.models.length - 1;
    const [low, high] = [this.models[0], this.models.at(-1)];
    element("front-note").textContent =
      this.models.length > 1
        ? `${this.models.length} models, from ${count(low.macs)} to ${count(high.macs)} multiply-accumulates (MACs) a picture. Move along them, or press 1 to ${Math.min(9, this.models.length)}.`
        : "";
    element("stops").classList.toggle("many", this.models.length > 6);
    document.querySelector(".rail").style.setProperty("--stops", this.models.length);
    element("stops").replaceChildren(...this.models.map((model, index) => this.stop(model, index)));
    element("other").replaceChildren(
      ...this.models.map((model, index) => new Option(model.short, String(index))),
    );
    this.slider.addEventListener("input", () => picked(this.models[Number(this.slider.value)]));
  }

  stop(model, index) {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = model.role === "teacher" ? "Teacher" : count(model.macs);
    const speed = document.createElement("span");
    item.append(name, speed);
    item.addEventListener("click", () => {
      this.slider.value = String(index);
      this.slider.dispatchEvent(new Event("input"));
    });
    return item;
  }

  /** The model to begin with: the largest that was cut out of a student. */
  get first() {
    return this.models.findLast((model) => model.role !== "teacher") ?? this.models.at(-1);
  }

  /** What to compare a model with at first: the largest other one. */
  counterpart(model) {
    return this.models.findLast((other) => other !== model) ?? model;
  }

  /** The most costly model that takes less than `budget` ms, judged by one whose time is known. */
  within(budget, known, milliseconds) {
    const fits = (model) => milliseconds * (model.macs / known.macs) < budget;
    return this.models.findLast(fits) ?? this.models[0];
  }

  /** Show a model's facts; `milliseconds` is null while it has not been timed. */
  show(model, milliseconds, threads) {
    this.slider.value = String(this.models.indexOf(model));
    this.slider.setAttribute("aria-valuetext", `${model.label}, ${count(model.macs)} MACs`);
    element("stops").childNodes.forEach((item, index) =>
      item.classList.toggle("chosen", this.models[index] === model));
    const write = (fact, value, note = "") => {
      element(`fact-${fact}`).textContent = value;
      element(`note-${fact}`).textContent = note;
    };
    write("macs", count(model.macs), this.against(model));
    write("size", megabytes(model.bytes), `${count(model.params)} parameters`);
    const place = { 0: "GPU", 1: "one thread" }[threads] ?? `${threads} threads`;
    if (milliseconds === null) write("speed", "–", "not measured yet");
    else write("speed", `${digits(1000 / milliseconds)} fps`, `${digits(milliseconds)} ms a picture, ${place}`);
    this.showScore(model, write);
    const origins = { teacher: "what the student was taught by; ", subnet: "cut out of the once-for-all student; ", generator: "" };
    const origin = origins[model.role];
    const proof =
      model.psnr_db !== null && model.psnr_db < LOSSLESS
        ? `PSNR of at least ${model.psnr_db.toFixed(0)} dB to PyTorch on ${model.num_images} images`
        : `differs from PyTorch by at most ${model.max_difference.toPrecision(1)} on ${model.num_images} images in [-1, 1]`;
    write("name", model.role === "teacher" ? "Teacher" : model.name, origin + proof);
  }

  against(model) {
    const largest = this.models.at(-1);
    if (model === largest) return this.models.length > 1 ? "the largest here" : "";
    const whom = largest.role === "teacher" ? "the teacher" : "the largest";
    return `${digits(largest.macs / model.macs)}× fewer than ${whom}`;
  }

  showScore(model, write) {
    const known = this.models.find((other) => other.score)?.score;
    element("fact-score").parentElement.hidden = !known;
    if (!known) return;
    element("score-name").textContent = scoreName(known.name);
    if (model.score) write("score", digits3(model.score.value), known.lower_is_better ? "lower is better" : "higher is better");
    else write("score", "–", model.role === "teacher" ? "it is the measure" : "not scored");
  }

  /** Write speeds under the stops; `milliseconds` gives that of a model, or null. */
  showSpeeds(milliseconds) {
    element("stops").childNodes.forEach((item, index) => {
      const time = milliseconds(this.models[index]);
      item.lastChild.textContent = time === null ? "" : `${digits(1000 / time)} fps`;
    });
  }
}

function digits3(value) {
  return Math.abs(value) < 1 ? value.toFixed(4) : digits(value);
}
