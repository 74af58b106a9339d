// WebGPU where there is one, if it makes the same picture in less time than WebAssembly.

import { Engine } from "./engine.js";

const PATIENCE = 30_000; // ms for a first run, kernels and all
const RUNS = 4;
const SMOOTH = 33; // ms, within which nobody sees a difference
const ALIKE = 2; // levels that the pictures may differ by, nearly everywhere
const EVERYWHERE = 0.99;

/**
 * An engine on the GPU with the model loaded, or null where WebAssembly is the better choice.
 *
 * The trial is spared where visitors want to save data, where the largest model would be smooth
 * anyway, and by `?backend=wasm` in the page's address.
 * @param {Engine} wasm where the model has run
 * @param {object} model
 * @param {object} largest of the models
 * @param {{data: Uint8ClampedArray, width: number, height: number}} input
 */
export async function chooseBackend(wasm, model, largest, input) {
  const wanted = new URLSearchParams(location.search).get("backend");
  if (navigator.connection?.saveData) return null;
  const adapter = wanted === "wasm" ? null : await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter || adapter.isFallbackAdapter || adapter.info?.isFallbackAdapter) return null;
  const gpu = new Engine("webgpu");
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("too slow")), PATIENCE);
  });
  try {
    if (await Promise.race([isFaster(gpu, wasm, model, largest, input), late])) return gpu;
  } catch {
    // a driver that fails is no reason to say anything: the page works without it
  } finally {
    clearTimeout(timer);
  }
  gpu.close();
  return null;
}

async function isFaster(gpu, wasm, model, largest, input) {
  for (let run = 0; run < 2; run++) await wasm.run(model, input);
  if (wasm.milliseconds(model) * (largest.macs / model.macs) < SMOOTH) return false;
  await gpu.load(model);
  for (let run = 0; run < RUNS; run++) {
    const wanted = await wasm.run(model, input);
    const found = await gpu.run(model, input);
    if (!isAlike(wanted.data, found.data)) return false;
  }
  return gpu.milliseconds(model) < wasm.milliseconds(model);
}

function isAlike(one, other) {
  let near = 0;
  for (let i = 0; i < one.length; i++) near += Math.abs(one[i] - other[i]) <= ALIKE;
  return one.length === other.length && near >= EVERYWHERE * one.length;
}
