/** What the person chose, kept in this browser. Works without storage, too: then it lasts as long as the page. */

const KEY = "roombridge.prefs";
const DEFAULTS = {
  provider: "",
  path: "",
  microphone: "",
  speaker: "",
  cleanVoice: true,
  announce: true,
  singleKeys: true,
};

export class Prefs {
  constructor(storage) {
    this._storage = storage;
    this._values = { ...DEFAULTS, ...this._read() };
  }

  get(name) {
    return this._values[name];
  }

  set(name, value) {
    this._values[name] = value;
    try {
      this._storage.setItem(KEY, JSON.stringify(this._values));
    } catch {
      // Forbidden or full: kept in memory only.
    }
  }

  _read() {
    try {
      const kept = JSON.parse(this._storage.getItem(KEY) ?? "{}");
      return Object.fromEntries(Object.entries(kept).filter(([name, value]) => typeof value === typeof DEFAULTS[name]));
    } catch {
      return {};
    }
  }
}
