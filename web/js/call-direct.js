/** A call straight to the bridge: one WebRTC connection, its offer posted by HTTP, words over a data channel. */

import { Call, within } from "./call.js";
import { Problem } from "./problems.js";

const CHANNEL = "roombridge";
/** Reasons of an end that are nobody's wish, and how the page names them. */
const FAILED = { provider_failed: "provider_failed", failed: "call_failed" };
const GATHER_MS = 2_000;
const CONNECT_MS = 12_000;
/** How long a connection may be away before we give it up; the bridge gives up by itself, and sooner. */
const SHAKY_MS = 12_000;
const WAITING_LIMIT = 64;

export class DirectCall extends Call {
  /** Args: api; iceServers as of /api/config; provider's name; track: the microphone's, or null to listen and type. */
  constructor({ api, iceServers, provider, track, video = false }) {
    super();
    this._api = api;
    this._provider = provider;
    this._track = track;
    this._wantsVideo = video;
    this._iceServers = iceServers ?? [];
    this._peer = null;
    this._channel = null;
    this._audio = null;
    this._video = null;
    this._location = "";
    this._callToken = "";
    this._waiting = [];
    this._shakyTimer = null;
  }

  async start() {
    if (typeof RTCPeerConnection === "undefined") throw new Problem("no_webrtc");
    try {
      await this._dial();
    } catch (error) {
      await this._leave();
      throw error;
    }
  }

  sendText(text) {
    this._send({ type: "text", text });
  }

  interrupt() {
    this._send({ type: "interrupt" });
  }

  setMuted(muted) {
    this._send({ type: "mute", muted });
  }

  async replaceMicrophone(track) {
    this._track = track;
    await this._audio?.replaceTrack(track);
  }

  async share(kind, track) {
    if (!this._video) throw new Problem("video_refused");
    await this._video.replaceTrack(track);
    this._send({ type: "video", source: kind });
  }

  async unshare() {
    if (!this._video) return;
    this._send({ type: "video", source: null });
    await this._video.replaceTrack(null);
  }

  async hangUp() {
    this._send({ type: "hang_up" });
    await this._finish("hung_up", null);
  }

  /** {roundTripMs, lossPercent, jitterMs}, null where not known. */
  async stats() {
    return this._peer ? readStats(await this._peer.getStats()) : null;
  }

  async _dial() {
    const peer = new RTCPeerConnection({ iceServers: this._iceServers, bundlePolicy: "max-bundle" });
    this._peer = peer;
    this._audio = peer.addTransceiver(this._track ?? "audio", { direction: "sendrecv" }).sender;
    if (this._wantsVideo) this._video = peer.addTransceiver("video", { direction: "sendonly" }).sender;
    this._channel = peer.createDataChannel(CHANNEL, { ordered: true });
    const stands = this._stands(peer, this._channel);
    stands.catch(() => {}); // told to whoever waits below; nobody waits if the dialling itself fails

    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    this._callToken = await this._api.callToken();
    const { answer, location } = await this._api.offer(this._provider, peer.localDescription.sdp, this._callToken);
    this._location = location;
    try {
      await peer.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (error) {
      throw new Problem("bad_answer", { detail: `The bridge's answer cannot be used: ${error.message}` });
    }
    await within(CONNECT_MS, stands, () => new Problem("no_connection"));
  }

  /** Resolves when the bridge has said hello. */
  _stands(peer, channel) {
    return new Promise((resolve, reject) => {
      peer.addEventListener("track", ({ track, streams }) => {
        if (track.kind === "audio") this.emit("voice", streams[0] ?? new MediaStream([track]));
      });
      peer.addEventListener("connectionstatechange", () => {
        if (peer.connectionState === "failed") reject(new Problem("no_connection"));
        this._onConnection(peer.connectionState);
      });
      channel.addEventListener("open", () => this._flush());
      channel.addEventListener("close", () => {
        reject(new Problem("no_connection"));
        void this._finish("lost", new Problem("lost"));
      });
      channel.addEventListener("message", ({ data }) => {
        const message = parsed(data);
        if (message) this._onMessage(message);
        if (message?.type === "hello") resolve();
        // Of no effect once it stands.
        if (message?.type === "ended") reject(new Problem(FAILED[message.reason] ?? "call_failed"));
      });
    });
  }

  _onMessage(message) {
    switch (message.type) {
      case "hello":
        this.emit("joined", {
          identity: message.identity, provider: message.provider, model: message.model, video: Boolean(message.video),
        });
        break;
      case "state":
        this.emit("state", message.state);
        break;
      case "caption":
      case "tool":
      case "turn":
        this.emit(message.type, message);
        break;
      case "error":
        this.emit("trouble", new Problem(message.code ?? "server", { detail: message.message, mend: message.mend ?? "" }));
        break;
      case "ended": {
        const problem = FAILED[message.reason];
        void this._finish(message.reason, problem ? new Problem(problem) : null);
        break;
      }
      default: // a newer bridge may tell more than we know
    }
  }

  _onConnection(state) {
    clearTimeout(this._shakyTimer);
    if (state === "connected") this.emit("steady");
    if (state === "disconnected") {
      this.emit("shaky");
      this._shakyTimer = setTimeout(() => void this._finish("lost", new Problem("lost")), SHAKY_MS);
    }
    if (state === "failed") void this._finish("lost", new Problem("lost"));
  }

  /** Messages wait for the channel to open; beyond the limit the oldest go. */
  _send(message) {
    const text = JSON.stringify(message);
    if (this._channel?.readyState === "open") {
      this._channel.send(text);
    } else if (!this.ended) {
      this._waiting.push(text);
      if (this._waiting.length > WAITING_LIMIT) this._waiting.shift();
    }
  }

  _flush() {
    for (const text of this._waiting.splice(0)) this._channel.send(text);
  }

  async _finish(reason, problem) {
    if (this.ended) return;
    this.emit("ended", { reason, problem });
    await this._leave();
  }

  async _leave() {
    clearTimeout(this._shakyTimer);
    this.ended = true;
    const { _location: location, _peer: peer, _channel: channel } = this;
    this._peer = this._channel = this._audio = this._video = null;
    this._location = "";
    if (location) await this._api.end(location, this._callToken);
    channel?.close();
    peer?.close();
  }
}

/** All candidates are found, or as many as there are after a while: an unreachable STUN server must not hold up a call. */
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete") {
        clearTimeout(timer);
        resolve();
      }
    });
  });
}

function parsed(data) {
  try {
    const message = JSON.parse(data);
    return message && typeof message === "object" ? message : null;
  } catch {
    return null;
  }
}

/** What a connection's statistics say of its quality. */
export function readStats(report) {
  const found = { roundTripMs: null, lossPercent: null, jitterMs: null };
  for (const one of report.values()) {
    if (one.type === "candidate-pair" && one.nominated && one.state === "succeeded" && one.currentRoundTripTime !== undefined) {
      found.roundTripMs = one.currentRoundTripTime * 1000;
    }
    if (one.type === "inbound-rtp" && one.kind === "audio") {
      const all = (one.packetsReceived ?? 0) + (one.packetsLost ?? 0);
      found.lossPercent = all > 0 ? (100 * Math.max(0, one.packetsLost ?? 0)) / all : null;
      if (one.jitter !== undefined) found.jitterMs = one.jitter * 1000;
    }
  }
  return found;
}
