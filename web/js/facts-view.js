/** What is known of the call: model, way, time, and the connection's quality. */

import { byId, make } from "./dom.js";

const PATHS = { direct: "direct WebRTC", livekit: "LiveKit room" };

export class FactsView {
  constructor() {
    this._list = byId("facts");
    this._facts = {};
    this._since = null;
  }

  begin({ title, model, path }) {
    this._since = performance.now();
    this._facts = { Model: model || title, Connection: PATHS[path] ?? path };
    this.update(null);
  }

  /** Args: stats {roundTripMs, lossPercent, jitterMs}, or null where there are none. */
  update(stats) {
    if (this._since === null) return;
    this._facts["Duration"] = clock((performance.now() - this._since) / 1000);
    const measured = stats ?? {};
    this._set("Round trip", measured.roundTripMs, (ms) => `${Math.round(ms)} ms`);
    this._set("Lost on the way to you", measured.lossPercent, (percent) => `${percent.toFixed(percent < 1 ? 2 : 1)} %`);
    this._set("Jitter", measured.jitterMs, (ms) => `${Math.round(ms)} ms`);
    this._list.replaceChildren(...Object.entries(this._facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  end() {
    this.update(null);
    this._since = null;
  }

  _set(name, value, format) {
    if (value !== null && value !== undefined) this._facts[name] = format(value);
  }
}

/** 75 as "1:15". */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
