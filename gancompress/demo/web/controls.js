// Where pictures come from: examples, files, the clipboard, the webcam.

import { Photo, decode } from "./photo.js";

const element = (id) => document.getElementById(id);

/** A place for a picture, and the webcam; gives the same as a drawing pad. */
export function photographing(manifest, changed, tell) {
  element("photo").hidden = false;
  element("save-input").setAttribute("aria-label", "Save the picture as the network gets it");
  element("save-input").title = "The picture as the network gets it, as a PNG file";
  element("choose").parentElement.append(element("save-input"));
  const photo = new Photo(element("source"), manifest, () => {
    element("drop").classList.toggle("filled", !photo.isEmpty);
    element("webcam").setAttribute("aria-pressed", String(photo.isLive));
    element("webcam").querySelector("span").textContent = photo.isLive ? "Stop webcam" : "Webcam";
    changed();
  });
  element("choose").addEventListener("click", () => element("file").click());
  element("drop").addEventListener("click", () => element("file").click());
  element("webcam").addEventListener("click", async () => {
    if (photo.isLive || photo.isStarting) {
      photo.stop();
      photo.changed();
      return;
    }
    try {
      await photo.start();
    } catch (error) {
      tell(error.message);
    }
  });
  return {
    input: () => photo.input(),
    get isEmpty() { return photo.isEmpty && !photo.isLive; },
    get isLive() { return photo.isLive; },
    pixels: () => photo.current,
    shown: () => element("source"),
    picture: (bitmap) => photo.show(bitmap),
  };
}

/** Buttons for the bundle's examples. */
export function examples(manifest, source, tell) {
  if (!manifest.examples.length) return;
  element("examples-section").hidden = false;
  element("examples").replaceChildren(...manifest.examples.map((example, index) => {
    const image = document.createElement("img");
    Object.assign(image, { src: example.file, alt: "", width: 96, height: 96 });
    const button = document.createElement("button");
    Object.assign(button, { type: "button", title: example.name });
    button.setAttribute("aria-label", `Example ${index + 1}`);
    button.append(image);
    button.addEventListener("click", (event) => source.pick?.(image, event) || take(example.file, source, tell));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

let latest = 0; // pictures that were asked for: only the last of them may come

/** Make a picture the input, unless another one was asked for meanwhile; gives a word about it. */
async function give(read, source, ifEmpty = false) {
  const turn = ++latest;
  const bitmap = await decode(await read());
  const advice = turn === latest && !(ifEmpty && !source.isEmpty) && source.picture(bitmap);
  bitmap.close();
  return advice || "";
}

/** Fetch an example and make it the input, or only where there is none; says what went wrong. */
export async function take(file, source, tell, ifEmpty = false) {
  const read = async () => {
    const response = await fetch(file);
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    return response.blob();
  };
  try {
    await give(read, source, ifEmpty);
  } catch (error) {
    tell(`The example cannot be shown: ${error.message}.`);
  }
}

/** Files that are dropped anywhere, pasted, or chosen. */
export function files(source, tell) {
  const accept = async (file) => {
    if (!file) return;
    try {
      tell(await give(() => file, source));
    } catch (error) {
      tell(`${file.name || "What was pasted"} ${error.message}. What was there stays.`);
    }
  };
  const chooser = element("file");
  chooser.addEventListener("change", () => {
    accept(chooser.files[0]);
    chooser.value = "";
  });
  let depth = 0; // of the elements that a dragged file is over
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (event.dataTransfer.files.length) accept(event.dataTransfer.files[0]);
    else tell("Only files can be dropped here, such as a PNG or JPEG.");
  });
  addEventListener("paste", (event) => accept(event.clipboardData?.files[0]));
}
