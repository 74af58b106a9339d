// The manifest in words and numbers for people.

/** Read front.json, and give every model what the page says of it. */
export async function readManifest() {
  const response = await fetch("front.json", { cache: "no-cache" });
  if (!response.ok) throw new Error(`front.json: the server answers ${response.status}`);
  const manifest = await response.json();
  for (const model of manifest.models) {
    model.taken = manifest.taken;
    model.label = model.role === "teacher" ? "the teacher" : model.name;
    model.short = model.role === "teacher" ? "Teacher" : `${count(model.macs)} MACs`;
  }
  const { pad } = manifest;
  if (pad?.colours.length === 1) [pad.line] = pad.colours; // the only colour is that of lines
  return manifest;
}

/** Three digits and a suffix: 49.6G. */
export function count(number) {
  const index = Math.max(0, ["", "K", "M", "G", "T"].findLastIndex((_, i) => number >= 1000 ** i));
  return `${digits(number / 1000 ** index)}${["", "K", "M", "G", "T"][index]}`;
}

export function megabytes(bytes) {
  return `${digits(bytes / 1e6)} MB`;
}

/** Three significant digits, without an exponent. */
export function digits(number) {
  if (number >= 100) return number.toFixed(0);
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

const SCORES = { mae: "mean error", psnr: "PSNR", ssim: "SSIM", lpips: "LPIPS" };

/** "teacher_mae" -> "mean error to the teacher" */
export function scoreName(name) {
  const [, side, kind] = /^(teacher|truth)_(\w+)$/.exec(name) ?? [];
  if (!side) return name;
  return `${SCORES[kind] ?? kind} against the ${side}`;
}
