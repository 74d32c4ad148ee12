/**
 * The answer time of each turn, as a picture's measures. Pure: no DOM.
 *
 * A turn is {turn, turn_known_ms, reply_started_ms, first_speech_ms, audible_ms}: milliseconds since the end of the
 * user's speech, null where unknown.
 */

/** The marks in the order of a usual turn, each the end of the stretch that is named for it. */
export const MARKS = [
  { key: "turn_known_ms", kind: "known", label: "end of speech noticed", short: "noticed" },
  { key: "reply_started_ms", kind: "started", label: "reply started", short: "reply" },
  { key: "first_speech_ms", kind: "speech", label: "first speech arrived", short: "speech" },
  { key: "audible_ms", kind: "audible", label: "audible", short: "audible" },
];

/** Milliseconds until something could be heard; the last known mark where that is missing; null if none is known. */
export function totalMs(turn) {
  for (const { key } of [...MARKS].reverse()) {
    if (isNumber(turn[key])) return Math.max(0, turn[key]);
  }
  return null;
}

/** A round scale end (ms) that holds all of these turns. */
export function scaleMs(turns) {
  const longest = Math.max(0, ...turns.map((turn) => totalMs(turn) ?? 0));
  for (const step of [500, 1000, 1500, 2000, 3000, 4000, 5000, 8000, 10_000, 15_000, 20_000, 30_000]) {
    if (longest <= step) return step;
  }
  return Math.ceil(longest / 10_000) * 10_000;
}

/** Where to draw gridlines: [0, ..., end], at most five. */
export function ticks(endMs) {
  const parts = [4, 3, 5].find((count) => Number.isInteger(endMs / count / 50)) ?? 4;
  return Array.from({ length: parts + 1 }, (_, index) => (endMs / parts) * index);
}

/**
 * The stretches of one turn: [{kind, fromMs, toMs}], without holes and never backwards. A mark that is unknown leaves its
 * stretch to the next one; one that is earlier than its forerunner (a provider may start before it says that it noticed)
 * takes no room.
 */
export function stretches(turn) {
  const found = [];
  let from = 0;
  for (const { key, kind } of MARKS) {
    if (!isNumber(turn[key])) continue;
    const to = Math.max(from, turn[key]);
    if (to > from) found.push({ kind, fromMs: from, toMs: to });
    from = to;
  }
  return found;
}

/** One sentence for those who do not see the picture. */
export function sentence(turn) {
  const known = MARKS.filter(({ key }) => isNumber(turn[key]));
  const name = `Turn ${turn.turn}${turn.typed ? ", typed" : ""}`;
  if (!known.length) return `${name}: no times known.`;
  const parts = known.map(({ key, label }) => `${label} after ${formatMs(turn[key])}`);
  return `${name}: ${parts.join(", ")}.`;
}

/** "840 ms", "1.2 s", or a dash. */
export function formatMs(ms) {
  if (!isNumber(ms)) return "–";
  return Math.abs(Math.round(ms)) < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** The middle of the known totals, null without any. */
export function medianMs(turns) {
  const known = turns.map(totalMs).filter((ms) => ms !== null).sort((a, b) => a - b);
  if (!known.length) return null;
  const half = Math.floor(known.length / 2);
  return known.length % 2 ? known[half] : (known[half - 1] + known[half]) / 2;
}

/** Keeps the newest `limit` turns by number, for the picture; older ones go. A turn told again replaces itself. */
export class TurnBook {
  constructor({ limit = 8 } = {}) {
    this.turns = [];
    this._limit = limit;
  }

  apply(turn) {
    const at = this.turns.findIndex((one) => one.turn === turn.turn);
    if (at >= 0) this.turns[at] = turn;
    else this.turns.push(turn);
    this.turns.sort((a, b) => a.turn - b.turn);
    this.turns.splice(0, Math.max(0, this.turns.length - this._limit));
  }
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
