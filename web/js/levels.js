/** From samples to what a meter shows, and whether somebody speaks. Pure: no DOM, no clock. */

const FLOOR_DBFS = -60;
const TOP_DBFS = -12;

/** Level of -1..1 samples as 0..1, even to the ear: -60 dBFS and below is 0, -12 and above is 1. */
export function levelOf(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const dbfs = 10 * Math.log10(sum / Math.max(1, samples.length) + 1e-12);
  return Math.min(1, Math.max(0, (dbfs - FLOOR_DBFS) / (TOP_DBFS - FLOOR_DBFS)));
}

/** A meter's needle: up at once, down slowly. */
export class Needle {
  constructor({ fallPerSecond = 2.4 } = {}) {
    this.value = 0;
    this._fall = fallPerSecond;
    this._at = null;
  }

  /** The shown level at `now` (ms) for a measured one. */
  move(level, now) {
    const elapsed = this._at === null ? 0 : Math.max(0, now - this._at) / 1000;
    this._at = now;
    this.value = Math.max(level, this.value - this._fall * elapsed, 0);
    return this.value;
  }
}

/** Whether there is speech: on after 60 ms above a level, off after 400 ms below a lower one. */
export class SpeechLamp {
  constructor({ onLevel = 0.36, offLevel = 0.26, onAfterMs = 60, offAfterMs = 400 } = {}) {
    this.lit = false;
    this._on = onLevel;
    this._off = offLevel;
    this._onAfter = onAfterMs;
    this._offAfter = offAfterMs;
    this._since = null;
  }

  move(level, now) {
    const turns = this.lit ? level < this._off : level > this._on;
    if (!turns) this._since = null;
    else if (this._since === null) this._since = now;
    if (this._since !== null && now - this._since >= (this.lit ? this._offAfter : this._onAfter)) {
      this.lit = !this.lit;
      this._since = null;
    }
    return this.lit;
  }
}
