// A worker with models in it, and how fast they are here.

const REMEMBERED = 15; // runs that a speed is the median of

/** Why a call has no answer: the engine was closed or begun anew, which is no failure. */
export class Cancelled extends Error {}

export class Engine {
  /** @param {"wasm" | "webgpu"} backend */
  constructor(backend) {
    this.backend = backend;
    this.threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
    this.times = new Map();
    this.open();
  }

  open() {
    this.calls = new Map();
    this.loaded = new Set();
    this.loading = new Map();
    this.started = null;
    this.dead = null;
    this.number = 0;
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    const die = (event) => {
      event.preventDefault?.();
      if (this.worker === worker) this.abandon(new Error(event.message || "the runtime stopped"));
    };
    worker.onmessage = ({ data }) => this.worker === worker && this.receive(data);
    worker.onerror = worker.onmessageerror = die;
    this.worker = worker;
  }

  /** Answer every call with this error, now and from now on. */
  abandon(error) {
    this.dead = error;
    const calls = [...this.calls.values()];
    this.calls.clear();
    for (const call of calls) call.reject(error);
  }

  close() {
    this.worker.terminate();
    this.abandon(new Cancelled("closed"));
  }

  /** Forget everything but the times and begin again, after a failure. */
  restart() {
    this.close();
    this.open();
  }

  receive({ id, result, error, received, total }) {
    const call = this.calls.get(id);
    if (!call) return;
    if (received !== undefined) return call.report?.(received, total);
    this.calls.delete(id);
    if (error === undefined) call.resolve(result);
    else call.reject(new Error(error));
  }

  call(action, content, { transfer = [], report } = {}) {
    if (this.dead) return Promise.reject(this.dead);
    const id = this.number++;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject, report });
      this.worker.postMessage({ id, action, content }, transfer);
    });
  }

  /** Have a model ready; `report(what, received, total)` hears of downloads, in bytes. */
  load(model, report = () => {}) {
    const { loading } = this;
    if (!loading.has(model.file)) {
      const listeners = new Set();
      const tell = (what) => (received, total) => listeners.forEach((hear) => hear(what, received, total));
      const promise = this.fetchAll(model, tell).catch((error) => {
        loading.delete(model.file);
        throw error;
      });
      loading.set(model.file, { promise, listeners });
    }
    const { promise, listeners } = loading.get(model.file);
    listeners.add(report);
    return promise.finally(() => listeners.delete(report));
  }

  async fetchAll(model, tell) {
    const { loaded } = this;
    const content = { name: this.backend, threads: this.threads };
    const started = (this.started ??= this.call("start", content, { report: tell("the runtime") }));
    try {
      await started;
    } catch (error) {
      if (this.started === started) this.started = null;
      throw error;
    }
    await this.call("load", { model }, { report: tell(model.label) });
    loaded.add(model.file);
  }

  isReady(model) {
    return !this.dead && this.loaded.has(model.file);
  }

  /** Time all models anew. */
  forgetTimes() {
    this.times.clear();
  }

  /** How often a model has run lately. */
  runs(model) {
    return this.times.get(model.file)?.length ?? 0;
  }

  /** Translate RGBA pixels; resolves to an ImageData. */
  async run(model, { data, width, height }) {
    const start = performance.now();
    const pixels = data.slice().buffer;
    const content = { file: model.file, pixels, width, height, taken: model.taken };
    const made = await this.call("run", content, { transfer: [pixels] });
    const times = this.times.get(model.file) ?? [];
    times.push(performance.now() - start - made.waited); // for another model to be opened
    this.times.set(model.file, times.slice(-REMEMBERED));
    return new ImageData(new Uint8ClampedArray(made.pixels), made.width, made.height);
  }

  /** Milliseconds of one picture from the page to the worker and back: the median; null if unknown. */
  milliseconds(model) {
    // the first run also makes memory and kernels ready
    const times = (this.times.get(model.file) ?? []).slice();
    if (times.length < 2) return null;
    times.sort((a, b) => a - b);
    return times[Math.floor((times.length - 1) / 2)];
  }
}
