// Runs models away from the page, so that drawing never waits for them.

const sessions = new Map();
// with the suffix that every web host knows the type of
const BACKENDS = {
  wasm: ["ort.wasm.min.js", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.js", "ort-wasm-simd-threaded.asyncify"],
};
const LEVELS = Float32Array.from({ length: 256 }, (_, level) => level / 127.5 - 1);
let ort, backend;

const at = (path) => new URL(path, self.location.href).href;

/** Runs one thing after the other: the runtime does not bear two at once. */
let last = Promise.resolve();
function queued(action) {
  const made = last.then(action);
  last = made.catch(() => {});
  return made;
}

/** Fetch a file of this site and say how far it is. */
async function download(path, total, report, cache = "default") {
  const response = await fetch(at(path), { cache });
  if (!response.ok) throw new Error(`${path.split("?")[0]}: the server answers ${response.status}`);
  const isPacked = response.headers.has("Content-Encoding"); // then the length is another one
  const length = total || (isPacked ? 0 : Number(response.headers.get("Content-Length"))) || 0;
  const reader = response.body.getReader();
  const chunks = [];
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    received += value.length;
    report(received, length && Math.max(length, received));
  }
  const whole = new Uint8Array(received);
  let place = 0;
  for (const chunk of chunks) {
    whole.set(chunk, place);
    place += chunk.length;
  }
  return whole;
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const ACTIONS = {
  async start({ name, threads }, report) {
    const [script, runtime] = BACKENDS[name];
    backend = name;
    ort = await import(at(`vendor/${script}`));
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmPaths = { mjs: at(`vendor/${runtime}.js`), wasm: at(`vendor/${runtime}.wasm`) };
    ort.env.wasm.wasmBinary = (await download(`vendor/${runtime}.wasm`, 0, report)).buffer;
    return {};
  },

  async load({ model }, report) {
    // a host may keep its files for a while, so that a name alone may mean an older one
    const path = `${model.file}?${model.sha256.slice(0, 16)}`;
    let bytes = await download(path, model.bytes, report);
    if (!(await isWhole(bytes, model))) bytes = await download(path, model.bytes, report, "reload");
    if (!(await isWhole(bytes, model))) {
      throw new Error(`${model.file} is not the file that the page expects; reload the page`);
    }
    const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
    const session = await queued(() => ort.InferenceSession.create(bytes, options));
    sessions.set(model.file, session);
    return {};
  },

  async run(content) {
    const start = performance.now();
    let waited = 0;
    const made = await queued(() => {
      waited = performance.now() - start;
      return translate(content);
    });
    return { ...made, waited };
  },
};

/** Whether a file is the one of the manifest. */
async function isWhole(bytes, model) {
  // without a secure context there is no crypto.subtle; a wrong length is then all one can see
  return bytes.length === model.bytes && (!crypto.subtle || (await digest(bytes)) === model.sha256);
}

/** Planes of RGBA pixels as a network takes them, in [-1, 1]. */
function planes(source, area, taken) {
  const values = new Float32Array((taken === "grey" ? 1 : 3) * area);
  for (let i = 0, at = 0; i < area; i++, at += 4) {
    const [r, g, b] = [source[at], source[at + 1], source[at + 2]];
    if (taken === "grey") {
      values[i] = LEVELS[(19595 * r + 38470 * g + 7471 * b + 32768) >> 16]; // as Pillow has it
      continue;
    }
    values[i] = LEVELS[r];
    values[area + i] = LEVELS[g];
    values[2 * area + i] = LEVELS[b];
  }
  return values;
}

async function translate({ file, pixels, width, height, taken }) {
  const session = sessions.get(file);
  const values = planes(new Uint8ClampedArray(pixels), width * height, taken);
  const input = new ort.Tensor("float32", values, [1, values.length / (width * height), height, width]);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const output = outputs[session.outputNames[0]];
  const result = output.data;
  const [, channels, toHeight, toWidth] = output.dims;
  const made = toWidth * toHeight;
  const rgba = new Uint8ClampedArray(4 * made); // rounds and clips by itself
  let sum = 0;
  for (let i = 0, at = 0; i < made; i++, at += 4) {
    const r = result[i];
    const [g, b] = channels === 1 ? [r, r] : [result[made + i], result[2 * made + i]];
    const alpha = channels === 4 ? result[3 * made + i] : 1;
    sum += r + g + b + alpha;
    rgba[at] = (r + 1) * 127.5;
    rgba[at + 1] = (g + 1) * 127.5;
    rgba[at + 2] = (b + 1) * 127.5;
    rgba[at + 3] = (alpha + 1) * 127.5;
  }
  if (!Number.isFinite(sum)) throw new Error("the model gave no picture (not a number)");
  return { pixels: rgba.buffer, width: toWidth, height: toHeight };
}

self.onmessage = async ({ data: { id, action, content } }) => {
  const report = (received, total) => self.postMessage({ id, received, total });
  try {
    const result = await ACTIONS[action](content, report);
    self.postMessage({ id, result }, result.pixels ? [result.pixels] : []);
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
};
