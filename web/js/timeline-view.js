/** The answer time of each turn: a picture, a legend, a table. */

import { byId, make, makeSvg } from "./dom.js";
import { MARKS, TurnBook, formatMs, medianMs, scaleMs, sentence, stretches, ticks, totalMs } from "./turns.js";

const ROW = 30;
const BAR = 14;
const LEFT = 30;
const RIGHT = 66;
const TOP = 4;
const AXIS = 22;

export class TimelineView {
  constructor() {
    this.book = new TurnBook();
    this._place = byId("timeline");
    this._summary = byId("latency-summary");
    this._table = byId("turn-table");
    this._all = [];
    this._width = 0;
    byId("legend").replaceChildren(
      ...MARKS.map(({ kind, label }) => make("li", {}, make("span", { class: `swatch bar-${kind}`, "aria-hidden": "true" }), label)),
    );
    new ResizeObserver(() => this._resized()).observe(this._place);
    this._draw();
  }

  turn(turn) {
    this.book.apply(turn);
    this._draw();
  }

  /** Another call begins, and counts its turns anew. */
  begin() {
    this.book = new TurnBook();
    this._draw();
  }

  _resized() {
    const width = Math.floor(this._place.clientWidth);
    if (Math.abs(width - this._width) >= 1) this._draw();
  }

  _draw() {
    const { turns } = this.book;
    this._width = Math.floor(this._place.clientWidth);
    byId("legend").hidden = byId("as-table").hidden = !turns.length;
    if (!turns.length) {
      this._summary.textContent = "From the end of your speech to the first sound";
      this._place.replaceChildren(make("p", { class: "timeline-empty" }, "Each answer is measured and drawn here."));
      return;
    }
    const median = medianMs(turns);
    const last = totalMs(turns[turns.length - 1]);
    this._summary.replaceChildren(
      make("strong", {}, formatMs(last)), " the last, ", make("strong", {}, formatMs(median)), turns.length > 1 ? " the median" : " so far",
    );
    this._place.replaceChildren(this._picture(turns));
    this._fillTable(turns);
  }

  _picture(turns) {
    const width = Math.max(200, this._width || 320);
    const end = scaleMs(turns);
    const height = TOP + turns.length * ROW + AXIS;
    const inner = width - LEFT - RIGHT;
    const x = (ms) => LEFT + (inner * ms) / end;
    const grid = ticks(end).map((ms) =>
      makeSvg("g", { class: "tick" },
        makeSvg("line", { x1: x(ms), x2: x(ms), y1: TOP, y2: height - AXIS }),
        makeSvg("text", { x: x(ms), y: height - 6, "text-anchor": "middle" }, ms === 0 ? "0" : formatTick(ms)),
      ));
    const rows = turns.map((turn, index) => {
      const middle = TOP + index * ROW + ROW / 2;
      const total = totalMs(turn);
      const parts = stretches(turn);
      return makeSvg("g", { class: "turn-row" },
        makeSvg("title", {}, sentence(turn)),
        makeSvg("text", { class: "turn-number", x: LEFT - 10, y: middle, "text-anchor": "end", dy: "0.35em" }, String(turn.turn)),
        makeSvg("rect", { class: "turn-track", x: x(0), y: middle - BAR / 2, width: inner, height: BAR, rx: BAR / 2 }),
        ...parts.map(({ kind, fromMs, toMs }) =>
          makeSvg("rect", { class: `bar bar-${kind}`, x: x(fromMs), y: middle - BAR / 2, width: Math.max(2, x(toMs) - x(fromMs) - 1.5), height: BAR, rx: 3 })),
        makeSvg("text", { class: "turn-total", x: width - RIGHT + 12, y: middle, dy: "0.35em" }, formatMs(total)),
      );
    });
    return makeSvg("svg", { class: "timeline-picture", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": turns.map(sentence).join(" ") },
      ...grid, ...rows);
  }

  _fillTable(turns) {
    const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Turn"), ...MARKS.map(({ short }) => make("th", { scope: "col" }, short))));
    const body = make("tbody", {}, ...[...turns].reverse().map((turn) =>
      make("tr", {}, make("th", { scope: "row" }, turn.typed ? `${turn.turn}, typed` : String(turn.turn)), ...MARKS.map(({ key }) => make("td", {}, formatMs(turn[key]))))));
    this._table.replaceChildren(make("caption", {}, "Time since the end of your speech"), head, body);
  }
}

function formatTick(ms) {
  return ms < 1000 ? `${ms}` : `${Number((ms / 1000).toFixed(2))} s`;
}
