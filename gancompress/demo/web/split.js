// The handle that moves the border between two pictures.

export class Split {
  /**
   * @param {HTMLElement} frame around both pictures
   * @param {HTMLElement} handle role="slider"
   */
  constructor(frame, handle) {
    Object.assign(this, { frame, handle });
    this.set(50);
    const drag = (event) => {
      const box = frame.getBoundingClientRect();
      this.set((100 * (event.clientX - box.left)) / box.width);
    };
    frame.addEventListener("pointerdown", (event) => {
      if (handle.hidden || event.button !== 0 || !event.isPrimary) return;
      event.preventDefault();
      this.pointer = event.pointerId;
      frame.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      drag(event);
    });
    frame.addEventListener("pointermove", (event) => {
      if (event.pointerId === this.pointer && frame.hasPointerCapture(event.pointerId)) drag(event);
    });
    handle.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.set(this.value + steps[event.key]);
  }

  set(percent) {
    this.value = Math.max(0, Math.min(100, percent));
    const shown = Math.round(this.value);
    this.frame.style.setProperty("--split", `${this.value}%`);
    this.handle.setAttribute("aria-valuenow", shown);
    this.handle.setAttribute("aria-valuetext", `${shown} % left model, ${100 - shown} % right model`);
  }
}
