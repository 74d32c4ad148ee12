/** Tells listeners by name. A listener that throws does not keep the others from being told. */
export class Emitter {
  #listeners = new Map();

  /** Call `listener(detail)` for each event of this name. Returns a function that takes it off again. */
  on(name, listener) {
    const list = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...list, listener]);
    return () => this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter((one) => one !== listener));
  }

  emit(name, detail) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error);
      }
    }
  }
}
