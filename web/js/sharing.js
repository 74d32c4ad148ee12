/** Camera and screen to the model: at most one at a time, with a preview, stopped when the browser's own bar stops it. */

import { byId } from "./dom.js";
import { Problem } from "./problems.js";

/** The model takes a picture a second at most; more than this is only upload. */
const CAMERA = { video: { width: { ideal: 1280 }, frameRate: { ideal: 8, max: 15 } } };
const SCREEN = { video: { frameRate: { ideal: 5, max: 10 } }, audio: false };

export class Sharing {
  constructor() {
    this._kind = "";
    this._track = null;
    this._call = null;
    this._changes = false;
  }

  /**
   * Switch this kind on, or off if it is on. Throws a `Problem`. While the browser asks which camera or screen, further
   * presses do nothing: the second track would take the place of the first, and nobody would ever stop that one.
   */
  async toggle(kind, call) {
    if (this._changes) return;
    this._changes = true;
    try {
      const was = this._kind;
      await this.stop();
      if (was !== kind) await this._start(kind, call);
    } finally {
      this._changes = false;
    }
  }

  async stop() {
    const { _call: call, _track: track } = this;
    this._kind = "";
    this._call = this._track = null;
    this._show();
    if (track) {
      track.stop();
      if (!call.ended) await call.unshare();
    }
  }

  async _start(kind, call) {
    const track = await ask(kind);
    if (call.ended) return track.stop(); // hung up while the browser asked
    track.contentHint = kind === "screen" ? "detail" : "motion";
    track.addEventListener("ended", () => {
      if (this._track === track) void this.stop();
    });
    this._kind = kind;
    this._call = call;
    this._track = track;
    try {
      await call.share(kind, track);
    } catch (error) {
      await this.stop();
      throw error;
    }
    this._show();
  }

  _show() {
    for (const kind of ["camera", "screen"]) byId(kind).setAttribute("aria-pressed", String(this._kind === kind));
    const video = byId("preview-video");
    video.srcObject = this._track ? new MediaStream([this._track]) : null;
    byId("preview").hidden = !this._track;
    byId("preview").dataset.kind = this._kind;
    if (this._track) video.play().catch(() => {});
  }
}

async function ask(kind) {
  const devices = navigator.mediaDevices;
  try {
    const stream = kind === "screen" ? await devices.getDisplayMedia(SCREEN) : await devices.getUserMedia(CAMERA);
    return stream.getVideoTracks()[0];
  } catch {
    throw new Problem("video_refused");
  }
}
