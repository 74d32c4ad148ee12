/** The middle of the page: what the agent does, who speaks, and the controls of a call. */

import { byId, make, setIcon } from "./dom.js";
import { MeterBar } from "./meters.js";

const STATES = {
  connecting: ["Connecting", "The call is being set up."],
  initializing: ["Waking up", "The model’s session is opening."],
  idle: ["Ready", "The model waits for you."],
  listening: ["Listening", "Say something, or type."],
  thinking: ["Thinking", "The answer is on its way."],
  speaking: ["Speaking", "Interrupt whenever you like."],
  reconnecting: ["Reconnecting", "The connection is away; we try to get it back."],
};

export class Stage {
  constructor() {
    this._orb = byId("orb");
    this._bars = { you: new MeterBar(byId("meter-you")), agent: new MeterBar(byId("meter-agent")) };
    this._speaking = { you: null, agent: null };
    this._muted = false;
    this.state = "none";
  }

  /** Show one of the agent's states, or one of the connection's. */
  show(state) {
    this.state = state;
    this._orb.dataset.state = state;
    const [word, note] = STATES[state] ?? [state, ""];
    byId("state-word").textContent = word;
    byId("state-note").textContent = note;
    byId("interrupt").setAttribute("aria-disabled", String(state !== "speaking" && state !== "thinking"));
  }

  words(word, note) {
    byId("state-word").textContent = word;
    byId("state-note").textContent = note;
  }

  rest(word, note) {
    this.show("none");
    this.words(word, note);
    this.others([]);
  }

  level(who, { level, speaking }, now) {
    this._bars[who].show(level, now);
    this._orb.style.setProperty(who === "agent" ? "--loud" : "--heard", level.toFixed(2));
    if (this._speaking[who] !== speaking) {
      this._speaking[who] = speaking;
      byId(`voice-${who}`).dataset.speaking = String(speaking);
      this._say(who);
    }
  }

  muted(muted, hasMicrophone) {
    this._muted = muted || !hasMicrophone;
    this._silent = hasMicrophone ? "muted" : "no microphone";
    const button = byId("mute");
    button.setAttribute("aria-pressed", String(muted));
    button.disabled = !hasMicrophone;
    setIcon(byId("mute-icon"), this._muted ? "mic-off" : "mic");
    byId("voice-you").dataset.muted = String(this._muted);
    this._say("you");
  }

  /** Further people in a room. */
  others(people) {
    for (const old of byId("voices").querySelectorAll("[data-other]")) old.remove();
    byId("voices").append(
      ...people.map(({ identity, speaking }) =>
        make("li", { class: "voice voice-other", "data-other": true, "data-speaking": String(speaking) },
          make("span", { class: "voice-name" }, identity),
          make("span", { class: "voice-said" }, speaking ? "speaking" : "quiet"))),
    );
  }

  _say(who) {
    const silent = who === "you" && this._muted ? this._silent : "quiet";
    byId(`voice-${who}-said`).textContent = this._speaking[who] && !(who === "you" && this._muted) ? "speaking" : silent;
  }
}
