// Pictures for the network: from files, from examples, from the webcam.

import { resample } from "./resample.js";

/** Decode a file or blob; rejects what is no picture. */
export async function decode(blob) {
  const options = { premultiplyAlpha: "none" };
  try {
    return await createImageBitmap(blob, options);
  } catch {
    throw new Error("cannot be read as a picture");
  }
}

/** RGBA bytes of a bitmap on paper, `width` x `height` cut from its middle and resized. */
export function fitted(bitmap, width, height, paper = "#ffffff") {
  const scale = Math.min(bitmap.width / width, bitmap.height / height);
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  const shrink = Math.min(1, (4 * Math.max(width, height)) / Math.max(w, h)); // spares time
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(w * shrink)), Math.max(1, Math.round(h * shrink)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const [x, y] = [Math.floor((bitmap.width - w) / 2), Math.floor((bitmap.height - h) / 2)];
  context.drawImage(bitmap, x, y, w, h, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return resample(data, canvas.width, canvas.height, width, height);
}

/** Sides that the models take, nearest to the picture's shape: the shorter one is `size`. */
export function sides(bitmap, size, stride) {
  const ratio = Math.min(2, Math.max(bitmap.width, bitmap.height) / Math.min(bitmap.width, bitmap.height));
  const long = Math.max(size, Math.floor((size * ratio) / stride) * stride);
  return bitmap.width >= bitmap.height ? [long, size] : [size, long];
}

export class Photo {
  /**
   * @param {HTMLCanvasElement} canvas shows the picture
   * @param {{size: number, stride: number}} manifest
   * @param {() => void} changed called when there is another picture
   */
  constructor(canvas, manifest, changed) {
    Object.assign(this, { canvas, manifest, changed });
    this.video = null;
    this.current = null;
    this.turn = null; // of the webcam that is being started or runs
  }

  get isEmpty() {
    return this.current === null;
  }

  get isStarting() {
    return this.turn !== null && this.video === null;
  }

  get isLive() {
    return this.video !== null;
  }

  input() {
    if (this.isLive && this.video.readyState >= 2) this.take(this.video, this.video.videoWidth, this.video.videoHeight);
    return this.current;
  }

  show(bitmap) {
    this.stop();
    this.take(bitmap, bitmap.width, bitmap.height);
    this.changed();
  }

  take(source, width, height) {
    const { size, stride } = this.manifest;
    const [w, h] = sides({ width, height }, size, stride);
    const drawable = source instanceof HTMLVideoElement ? frameOf(source) : source;
    this.current = { data: fitted(drawable, w, h), width: w, height: h };
    [this.canvas.width, this.canvas.height] = [w, h];
    const image = new ImageData(new Uint8ClampedArray(this.current.data), w, h);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /** Begin to take pictures with the webcam; rejects with a message for people. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The webcam needs https, or a page on this machine.");
    }
    const turn = (this.turn = {});
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
    } catch (error) {
      if (this.turn !== turn) return;
      this.turn = null;
      const refused = error.name === "NotAllowedError";
      throw new Error(refused ? "The webcam was not allowed. The picture stays." : "No webcam can be used here. The picture stays.");
    }
    const video = document.createElement("video");
    video.playsInline = video.muted = true;
    video.srcObject = stream;
    const started = this.turn === turn && (await video.play().then(() => true, () => false));
    if (this.turn !== turn || !started) {
      for (const track of stream.getTracks()) track.stop();
      if (this.turn !== turn) return; // something else was chosen meanwhile
      this.turn = null;
      throw new Error("The webcam gives no picture. The picture stays.");
    }
    this.video = video;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      this.stop();
      this.changed();
    });
    this.changed();
  }

  stop() {
    this.turn = null;
    for (const track of this.video?.srcObject.getTracks() ?? []) track.stop();
    this.video = null;
  }
}

/** One frame, mirrored as in a mirror. */
function frameOf(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext("2d");
  context.scale(-1, 1);
  context.drawImage(video, -canvas.width, 0);
  return canvas;
}
