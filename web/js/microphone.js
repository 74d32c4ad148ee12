/** The microphone: opened, changed, muted, closed; and which devices there are. */

import { Emitter } from "./emitter.js";
import { Problem, microphoneProblem } from "./problems.js";

/** Events: "changed" (the track is another one), "lost" (the device went away). */
export class Microphone extends Emitter {
  constructor() {
    super();
    this.stream = null;
    this.muted = false;
  }

  get track() {
    return this.stream?.getAudioTracks()[0] ?? null;
  }

  /** Ask for it. Throws a `Problem`. */
  async open({ deviceId = "", clean = true } = {}) {
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("insecure_page");
    const wanted = { echoCancellation: clean, noiseSuppression: clean, autoGainControl: clean, channelCount: 1 };
    let stream;
    try {
      stream = await this._ask(wanted, deviceId);
    } catch (error) {
      throw microphoneProblem(error);
    }
    this.close();
    this.stream = stream;
    this.track.enabled = !this.muted;
    this.track.addEventListener("ended", () => {
      if (this.stream === stream) this.emit("lost");
    });
    this.emit("changed", this.track);
  }

  setMuted(muted) {
    this.muted = muted;
    if (this.track) this.track.enabled = !muted;
  }

  close() {
    const stream = this.stream;
    this.stream = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
  }

  async _ask(wanted, deviceId) {
    if (deviceId) {
      try {
        return await navigator.mediaDevices.getUserMedia({ audio: { ...wanted, deviceId: { exact: deviceId } } });
      } catch (error) {
        // The one chosen last time may be unplugged today.
        if (error?.name !== "OverconstrainedError" && error?.name !== "NotFoundError") throw error;
      }
    }
    return navigator.mediaDevices.getUserMedia({ audio: wanted });
  }
}

/** {microphones, speakers}, each [{id, name}]. Names are empty until the microphone was allowed. */
export async function listDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const of = (kind, word) =>
    all
      .filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "communications")
      .map((device, index) => ({
        id: device.deviceId === "default" ? "" : device.deviceId,
        name: device.label || `${word} ${index + 1}`,
      }));
  return { microphones: of("audioinput", "Microphone"), speakers: of("audiooutput", "Speaker") };
}

export const canChooseSpeaker = typeof HTMLMediaElement !== "undefined" && "setSinkId" in HTMLMediaElement.prototype;
