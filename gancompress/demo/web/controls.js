// Where pictures come from: tools of the drawing pad, examples, files, the clipboard, the webcam.

import { Pad } from "./pad.js";
import { Photo, decode, fitted } from "./photo.js";

const element = (id) => document.getElementById(id);

/** Exactly one of some buttons is on; arrow keys move between them. */
function radios(buttons, chosen) {
  const choose = (button, focus) => {
    for (const each of buttons) {
      each.setAttribute("aria-checked", String(each === button));
      each.tabIndex = each === button ? 0 : -1;
    }
    if (focus) button.focus();
    chosen(button);
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(buttons.at((index + step) % buttons.length), true);
    });
  });
  choose(buttons[0]);
  return choose;
}

/** A drawing pad with its tools; gives `{input(), isEmpty, isLive, pixels(), picture(bitmap)}`. */
export function sketching(manifest, changed) {
  element("drawing").hidden = false;
  const note = () => {
    element("undo").disabled = !pad.done.length;
    element("redo").disabled = !pad.undone.length;
    element("clear").disabled = pad.isEmpty;
    element("hint").hidden = !pad.isEmpty;
    changed();
  };
  const pad = new Pad(element("pad"), element("cursor"), manifest.pad, note);
  const tools = [element("pen"), element("eraser")];
  const tool = radios(tools, (button) => { pad.eraser = button === tools[1]; });
  const swatches = manifest.pad.colours.map((colour, index) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", title: `Colour ${index + 1}: ${colour}` });
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", `Colour ${index + 1}, ${colour}`);
    button.style.setProperty("--colour", colour);
    button.dataset.colour = colour;
    return button;
  });
  if (swatches.length > 1) {
    element("swatches").replaceChildren(...swatches);
    element("swatches").hidden = false;
    radios(swatches, (button) => {
      pad.colour = button.dataset.colour;
      tool(tools[0]);
    });
  }
  element("undo").addEventListener("click", () => pad.undo());
  element("redo").addEventListener("click", () => pad.redo());
  element("clear").addEventListener("click", () => pad.clear());
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) pad.redo();
    else pad.undo();
  });
  return {
    input: () => pad.input(manifest.size),
    get isEmpty() { return pad.isEmpty; },
    isLive: false,
    pixels: () => ({ data: pad.drawing.pixels, width: pad.spec.grid, height: pad.spec.grid }),
    picture: (bitmap) => pad.load(fitted(bitmap, pad.spec.grid, pad.spec.grid, pad.spec.paper)),
  };
}

/** A place for a picture, and the webcam; gives the same as `sketching`. */
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
    button.addEventListener("click", () => take(example.file, source, tell));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

let latest = 0; // pictures that were asked for: only the last of them may come

/** Make a picture the input, unless another one was asked for while it was read. */
async function give(read, source, ifEmpty = false) {
  const turn = ++latest;
  const bitmap = await decode(await read());
  if (turn === latest && !(ifEmpty && !source.isEmpty)) source.picture(bitmap);
  bitmap.close();
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
      await give(() => file, source);
      tell("");
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
