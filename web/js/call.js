/**
 * One call, whichever way it travels. `DirectCall` and `LiveKitCall` are the two kinds; the page knows only this.
 *
 * Methods: start() resolves when the call stands, throws a `Problem`; sendText, interrupt, setMuted, replaceMicrophone,
 * share(kind: "camera" | "screen", track), unshare, hangUp, stats.
 *
 * Events:
 * - "joined"   {identity, provider, model, video}
 * - "state"    the agent's: initializing, idle, listening, thinking, speaking
 * - "caption"  {segment, speaker, text, append, final, interrupted}; speaker is "agent", or an identity
 * - "tool"     {call_id, name, state, ms}
 * - "turn"     {turn, turn_known_ms, reply_started_ms, first_speech_ms, audible_ms}
 * - "voice"    MediaStream of the agent, once and again when it changes
 * - "others"   [{identity, speaking}] further people in the room
 * - "trouble"  a `Problem` that the call survives
 * - "shaky", "steady"  the connection is away, is back
 * - "ended"    {reason, problem: Problem|null}, once, of a call that stood; afterwards nothing more is told. One that never
 *   stood is told by what start() throws
 */

import { Emitter } from "./emitter.js";

export class Call extends Emitter {
  constructor() {
    super();
    this.ended = false;
    this._stood = false;
  }

  emit(name, detail) {
    if (this.ended) return;
    if (name === "joined") this._stood = true;
    if (name === "ended") this.ended = true;
    if (name !== "ended" || this._stood) super.emit(name, detail);
  }
}

/** Wait at most `ms`; then throw what `problem` makes. */
export async function within(ms, work, problem) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(problem()), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
