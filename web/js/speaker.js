/** Plays the agent's voice through the chosen loudspeaker. */

import { canChooseSpeaker } from "./microphone.js";
import { Problem } from "./problems.js";

export class Speaker {
  constructor(element) {
    this._element = element;
  }

  /** Throws a `Problem` if the browser wants a press of a button first. */
  async play(stream) {
    this._element.srcObject = stream;
    await this.resume();
  }

  async resume() {
    try {
      await this._element.play();
    } catch (error) {
      if (error?.name === "NotAllowedError") throw new Problem("sound_blocked");
    }
  }

  async choose(deviceId) {
    if (!canChooseSpeaker) return;
    try {
      await this._element.setSinkId(deviceId);
    } catch {
      await this._element.setSinkId(""); // the one chosen last time may be unplugged today
    }
  }

  stop() {
    this._element.pause();
    this._element.srcObject = null;
  }
}
