/**
 * What was said, as lines. Pure: updates in, changes out; the view draws them.
 *
 * A caption is {segment, speaker, text, append, final, interrupted}. The agent's come as pieces (`append`), a person's
 * as the whole text so far. `speaker` is "agent" or an identity.
 */

const AGENT = "agent";

export class CaptionBook {
  /** Keeps the newest `limit` lines; `dropped` counts those that went. */
  constructor({ limit = 500 } = {}) {
    this.lines = [];
    this.dropped = 0;
    this._limit = limit;
    this._next = 1;
    this._during = 0;
    this._userSpokeAt = Number.NEGATIVE_INFINITY;
  }

  /** Another call begins: it may give its segments and tool calls names that the one before had. */
  begin() {
    this._during += 1;
  }

  /** The line of a segment of this call, if there is one. */
  lineOf(segment) {
    return this.lines.find((one) => one.kind === "caption" && one.during === this._during && one.segment === segment);
  }

  /** Our own microphone was loud at `now` (ms). */
  heardUser(now) {
    this._userSpokeAt = now;
  }

  /**
   * Take one caption in.
   * @returns {{line: object, added: boolean, before: object|null}|null} the line that changed; `before` is the line that
   *   a new one stands before, null for the end. Null when there is nothing to show.
   */
  apply(caption, now) {
    let line = this.lineOf(caption.segment);
    const added = line === undefined;
    if (added) {
      // An end without a beginning, such as of a reply that was cut before it sounded, shows nothing.
      if (!caption.text.trim()) return null;
      line = { id: this._next++, during: this._during, kind: "caption", segment: caption.segment, speaker: caption.speaker, text: "", final: false, interrupted: false, since: now };
    }
    line.text = caption.append ? line.text + caption.text : caption.text || line.text;
    line.final = Boolean(caption.final);
    line.interrupted = line.interrupted || Boolean(caption.interrupted);
    const before = added ? this._placeOf(line) : null;
    if (added) this._insert(line, before);
    return { line, added, before };
  }

  /** Something typed by us. */
  typed(text, speaker, now) {
    return this._append({ kind: "typed", speaker, text, final: true, interrupted: false, since: now });
  }

  /** A remark of the page itself, such as that the call ended. */
  note(text, now) {
    return this._append({ kind: "note", speaker: "", text, final: true, interrupted: false, since: now });
  }

  /** A tool call {call_id, name, state, ms}, shown where it happened and changed in place. */
  tool(tool, now) {
    let line = this.lines.find((one) => one.kind === "tool" && one.during === this._during && one.call === tool.call_id);
    const added = line === undefined;
    if (added) line = { id: this._next++, during: this._during, kind: "tool", call: tool.call_id, speaker: AGENT, text: tool.name, final: false, interrupted: false, since: now };
    line.text = tool.name || line.text;
    line.state = tool.state;
    line.ms = tool.ms ?? null;
    line.final = tool.state !== "started";
    if (added) this._insert(line, null);
    return { line, added, before: null };
  }

  _append(fields) {
    const line = { id: this._next++, during: this._during, ...fields };
    this._insert(line, null);
    return { line, added: true, before: null };
  }

  _insert(line, before) {
    const at = before === null ? this.lines.length : this.lines.indexOf(before);
    this.lines.splice(at, 0, line);
    while (this.lines.length > this._limit) {
      this.lines.shift();
      this.dropped += 1;
    }
  }

  /**
   * Transcripts of speech may come after the answer has begun. A person who has not spoken since then said it before.
   */
  _placeOf(line) {
    if (line.speaker === AGENT) return null;
    let before = null;
    for (const other of [...this.lines].reverse()) {
      const ofAnswer = other.speaker === AGENT && (other.kind === "caption" || other.kind === "tool");
      if (!ofAnswer || other.since <= this._userSpokeAt) break;
      before = other;
    }
    return before;
  }
}
