// Runs models away from the page, so that drawing never waits for them.

const sessions = new Map();
const BACKENDS = {
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"],
};
let ort, backend;

const at = (path) => new URL(path, self.location.href).href;

/** Fetch a file of this site and say how far it is. */
async function download(path, total, report) {
  const response = await fetch(at(path));
  if (!response.ok) throw new Error(`${path}: the server answers ${response.status}`);
  const length = total || Number(response.headers.get("Content-Length")) || 0;
  const reader = response.body.getReader();
  const chunks = [];
  let received = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    received += value.length;
    report(received, Math.max(length, received));
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
    ort.env.wasm.wasmPaths = at("vendor/");
    ort.env.wasm.wasmBinary = (await download(`vendor/${runtime}.wasm`, 0, report)).buffer;
    return {};
  },

  async load({ model }, report) {
    const bytes = await download(model.file, model.bytes, report);
    // without a secure context there is no crypto.subtle; a wrong length is then all one can see
    const wrong = crypto.subtle && (await digest(bytes)) !== model.sha256;
    if (bytes.length !== model.bytes || wrong) {
      throw new Error(`${model.file} is not the file that the page expects; reload the page`);
    }
    const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
    sessions.set(model.file, await ort.InferenceSession.create(bytes, options));
    return {};
  },

  async run({ file, pixels, width, height }) {
    const session = sessions.get(file);
    const source = new Uint8ClampedArray(pixels);
    const area = width * height;
    const values = new Float32Array(3 * area);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) values[c * area + i] = source[4 * i + c] / 127.5 - 1;
    }
    const start = performance.now();
    const input = new ort.Tensor("float32", values, [1, 3, height, width]);
    const outputs = await session.run({ [session.inputNames[0]]: input });
    const output = outputs[session.outputNames[0]];
    const result = output.data;
    const milliseconds = performance.now() - start;
    const [, , toHeight, toWidth] = output.dims;
    const made = toWidth * toHeight;
    for (let i = 0; i < result.length; i++) {
      if (Number.isNaN(result[i])) throw new Error("the model gave no picture (not a number)");
    }
    const rgba = new Uint8ClampedArray(4 * made).fill(255);
    for (let i = 0; i < made; i++) {
      for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round((result[c * made + i] + 1) * 127.5);
    }
    return { pixels: rgba.buffer, width: toWidth, height: toHeight, milliseconds };
  },
};

self.onmessage = async ({ data: { id, action, content } }) => {
  const report = (received, total) => self.postMessage({ id, received, total });
  try {
    const result = await ACTIONS[action](content, report);
    self.postMessage({ id, result }, result.pixels ? [result.pixels] : []);
  } catch (error) {
    self.postMessage({ id, error: error?.message ?? String(error) });
  }
};
