// Asking again and again, while somebody looks.

const SECONDS = 15;
const SECONDS_MAX = 120; // between two tries while the console does not answer

/** Runs `task(signal)` every few seconds once `run` was called, but not while the page is hidden. `onFailure(error, seconds)`: until the next try. */
export class Refresh {
  constructor(task, onFailure, seconds = SECONDS) {
    this.task = task;
    this.onFailure = onFailure;
    this.seconds = seconds;
    this.failures = 0;
    this.timer = 0;
    this.controller = null;
    this.onVisible = () => document.hidden || this.due > Date.now() || this.run();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  /** Run it now; what is still under way is called off. Resolves when it is done, or called off. */
  async run() {
    clearTimeout(this.timer);
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    try {
      await this.task(signal);
      this.failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      this.failures += 1;
      this.onFailure(error, this.pause);
    }
    if (signal.aborted) return;
    this.due = Date.now() + this.pause * 1000;
    this.timer = setTimeout(() => document.hidden || this.run(), this.pause * 1000);
  }

  get pause() {
    return Math.min(this.seconds * 2 ** Math.max(0, this.failures - 1), SECONDS_MAX);
  }

  stop() {
    clearTimeout(this.timer);
    this.controller?.abort();
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}
