/** The conversation on the page: lines of a `CaptionBook`, kept at the newest unless the reader has scrolled up. */

import { CaptionBook } from "./captions.js";
import { byId, icon, make } from "./dom.js";
import { formatMs } from "./turns.js";

const AT_END_PX = 40;
const TOOL_WORDS = { started: "running", answered: "answered", failed: "failed", cancelled: "cancelled" };

export class CaptionsView {
  /** Args: announce(text) is told each finished caption; isMe(identity) says whether a speaker is the person here. */
  constructor({ announce, isMe }) {
    this.book = new CaptionBook();
    this._list = byId("lines");
    this._empty = byId("lines-empty");
    this._latest = byId("to-latest");
    this._announce = announce;
    this._isMe = isMe;
    this._items = new Map();
    this._list.addEventListener("scroll", () => this._onScroll(), { passive: true });
    this._latest.addEventListener("click", () => this._toEnd());
  }

  /** Another call begins; what was said before stays. */
  begin() {
    this.book.begin();
  }

  caption(caption) {
    const wasFinal = this.book.lineOf(caption.segment)?.final ?? false;
    const change = this.book.apply(caption, performance.now());
    if (!change) return;
    this._show(change);
    const { line } = change;
    if (line.final && !wasFinal) this._announce(`${this._nameOf(line.speaker)}: ${line.text}`);
  }

  tool(tool) {
    this._show(this.book.tool(tool, performance.now()));
  }

  typed(text) {
    this._show(this.book.typed(text, "me", performance.now()));
    this._toEnd();
  }

  note(text) {
    this._show(this.book.note(text, performance.now()));
  }

  _show({ line, added, before }) {
    const atEnd = this._isAtEnd();
    this._empty.hidden = true;
    if (added) {
      const item = make("li", { class: `line line-${line.kind}` });
      this._items.set(line.id, item);
      this._list.insertBefore(item, before ? this._items.get(before.id) : null);
      this._forgetDropped();
    }
    this._draw(this._items.get(line.id), line);
    this._joinNeighbours();
    if (atEnd) this._toEnd();
    else this._latest.hidden = false;
  }

  _draw(item, line) {
    if (line.kind === "note") {
      item.textContent = line.text;
    } else if (line.kind === "tool") {
      item.dataset.state = line.state;
      const took = line.ms === null || line.state === "started" ? "" : formatMs(line.ms);
      item.replaceChildren(
        icon("tool"),
        make("span", { class: "tool-name" }, line.text),
        make("span", { class: "tool-state" }, TOOL_WORDS[line.state] ?? line.state),
        make("span", { class: "tool-time" }, took),
      );
    } else {
      const mine = line.kind === "typed" || this._isMe(line.speaker);
      item.dataset.who = mine ? "me" : line.speaker === "agent" ? "agent" : "other";
      item.dataset.final = String(line.final);
      const marks = [line.interrupted && "interrupted", line.kind === "typed" && "typed"].filter(Boolean);
      item.replaceChildren(
        make("span", { class: "line-name" }, this._nameOf(line.kind === "typed" ? "me" : line.speaker)),
        make("p", { class: "line-text" }, line.text),
        ...marks.map((mark) => make("span", { class: "line-mark" }, mark)),
      );
    }
  }

  /** A name is shown where the speaker changes, and hidden (not from screen readers) where he goes on. */
  _joinNeighbours() {
    let before = null;
    for (const item of this._list.children) {
      const who = item.dataset.who ?? "";
      item.classList.toggle("line-joined", who !== "" && who === before);
      before = who;
    }
  }

  _nameOf(speaker) {
    if (speaker === "agent") return "Model";
    return speaker === "me" || this._isMe(speaker) ? "You" : speaker;
  }

  _forgetDropped() {
    const kept = new Set(this.book.lines.map((line) => line.id));
    for (const [id, item] of this._items) {
      if (kept.has(id)) break; // in the order of their making, more or less: the oldest go
      item.remove();
      this._items.delete(id);
    }
  }

  _isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this._list;
    return scrollHeight - scrollTop - clientHeight < AT_END_PX;
  }

  _onScroll() {
    if (this._isAtEnd()) this._latest.hidden = true;
  }

  _toEnd() {
    this._list.scrollTop = this._list.scrollHeight;
    this._latest.hidden = true;
  }
}
