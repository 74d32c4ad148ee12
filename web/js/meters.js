/** Live levels of both sides: meters, the orb's size, and who is speaking. */

import { wantsLessMotion } from "./dom.js";
import { Needle, SpeechLamp, levelOf } from "./levels.js";

const BLOCK = 1024;
/** Drawn no more often than an eye sees: half the work of each frame of the screen. */
const LIVELY_MS = 30;
const CALM_MS = 250;
const ARIA_MS = 500;

/** One AudioContext for all meters, made after a press of a button: browsers want that. */
export class Meters {
  constructor() {
    this._context = null;
    this._meters = new Map();
    this._frame = 0;
    this._drawnAt = 0;
  }

  /**
   * Show the level of a stream. Args: name; stream; show({level, speaking}, now) is called with frames of the screen, some
   * thirty times a second, or four times for those who want less motion.
   */
  watch(name, stream, show) {
    this.unwatch(name);
    this._context ??= new AudioContext();
    void this._context.resume();
    const source = this._context.createMediaStreamSource(stream);
    const analyser = this._context.createAnalyser();
    analyser.fftSize = BLOCK;
    source.connect(analyser);
    this._meters.set(name, { source, analyser, show, needle: new Needle(), lamp: new SpeechLamp(), samples: new Float32Array(BLOCK) });
    if (!this._frame) this._frame = requestAnimationFrame((now) => this._draw(now));
  }

  unwatch(name) {
    const meter = this._meters.get(name);
    if (!meter) return;
    this._meters.delete(name);
    meter.source.disconnect();
    meter.show({ level: 0, speaking: false }, performance.now());
  }

  /** Everything at rest, the audio device let go. */
  close() {
    for (const name of [...this._meters.keys()]) this.unwatch(name);
    cancelAnimationFrame(this._frame);
    this._frame = 0;
    void this._context?.close();
    this._context = null;
  }

  _draw(now) {
    this._frame = this._meters.size ? requestAnimationFrame((at) => this._draw(at)) : 0;
    if (now - this._drawnAt < (wantsLessMotion() ? CALM_MS : LIVELY_MS)) return;
    this._drawnAt = now;
    for (const { analyser, needle, lamp, samples, show } of this._meters.values()) {
      analyser.getFloatTimeDomainData(samples);
      const measured = levelOf(samples);
      show({ level: needle.move(measured, now), speaking: lamp.move(measured, now) }, now);
    }
  }
}

/** A meter's element: a bar by a custom property, a number twice a second for those who ask for it. */
export class MeterBar {
  constructor(element) {
    this._element = element;
    this._toldAt = 0;
  }

  show(level, now) {
    const shown = level.toFixed(2);
    if (shown !== this._shown) this._element.style.setProperty("--level", shown);
    this._shown = shown;
    if (now - this._toldAt >= ARIA_MS || level === 0) {
      this._toldAt = now;
      this._element.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    }
  }
}
