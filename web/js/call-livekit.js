/** A call through a LiveKit room: livekit-client for the media, LiveKit's own conventions for words and states. */

import { Call, within } from "./call.js";
import { readStats } from "./call-direct.js";
import { Problem } from "./problems.js";

const CLIENT = "vendor/livekit-client.esm.mjs";
const TRANSCRIPTION = "lk.transcription";
const CHAT = "lk.chat";
const EVENTS = "roombridge.events";
const COMMANDS = "roombridge.commands";
const STATE = "lk.agent.state";
const AGENT_MS = 20_000;
const AWAY_MS = 20_000;

export class LiveKitCall extends Call {
  /** Args as of `DirectCall`; base is the page's address; video says whether the model sees what is shared. */
  constructor({ api, base, provider, track, video = false }) {
    super();
    this._api = api;
    this._base = base;
    this._provider = provider;
    this._track = track;
    this._seen = video;
    this._room = null;
    this._sdk = null;
    this._microphone = null;
    this._shared = null;
    this._agent = null;
    this._agentAudio = null;
    this._identity = "";
    this._events = Promise.resolve();
  }

  async start() {
    try {
      this._sdk = await import(new URL(CLIENT, this._base).href);
    } catch {
      throw new Problem("livekit_client_missing");
    }
    this._sdk.setLogLevel("warn");
    try {
      await this._join();
    } catch (error) {
      await this._leave();
      throw error;
    }
  }

  sendText(text) {
    this._told(this._room?.localParticipant.sendText(text, { topic: CHAT }));
  }

  interrupt() {
    this._told(this._room?.localParticipant.sendText(JSON.stringify({ type: "interrupt" }), { topic: COMMANDS }));
  }

  setMuted(muted) {
    const publication = this._microphone;
    this._told(muted ? publication?.mute() : publication?.unmute());
  }

  async replaceMicrophone(track) {
    this._track = track;
    if (this._microphone) await this._microphone.replaceTrack(track, { userProvidedTrack: true });
    else await this._publishMicrophone();
  }

  async share(kind, track) {
    const { Track } = this._sdk;
    await this.unshare();
    const source = kind === "screen" ? Track.Source.ScreenShare : Track.Source.Camera;
    this._shared = await this._room.localParticipant.publishTrack(track, { source, simulcast: false });
  }

  async unshare() {
    const shared = this._shared;
    this._shared = null;
    if (shared?.track) await this._room?.localParticipant.unpublishTrack(shared.track, true);
  }

  async hangUp() {
    await this._finish("hung_up", null);
  }

  async stats() {
    const track = this._agentAudio;
    const report = await track?.getRTCStatsReport?.();
    return report ? readStats(report) : null;
  }

  async _join() {
    const { Room, RoomEvent } = this._sdk;
    const callToken = await this._api.callToken();
    const { url, token, identity } = await this._api.room(this._provider, callToken);
    const room = new Room({
      adaptiveStream: false, dynacast: false, stopLocalTrackOnUnpublish: false, reconnectPolicy: { nextRetryDelayInMs },
    });
    this._room = room;
    this._identity = identity;

    room.registerTextStreamHandler(TRANSCRIPTION, (reader, from) => void this._readCaption(reader, from.identity));
    room.registerTextStreamHandler(EVENTS, (reader, from) => {
      // One after the other: side by side, a later one may be complete first.
      this._events = this._events.then(() => this._readEvent(reader, from.identity));
    });
    room
      .on(RoomEvent.TrackSubscribed, (track, _, participant) => this._onTrack(track, participant))
      .on(RoomEvent.ParticipantConnected, (participant) => this._onParticipant(participant))
      .on(RoomEvent.ParticipantDisconnected, (participant) => this._onLeft(participant))
      .on(RoomEvent.ParticipantAttributesChanged, (_, participant) => this._onParticipant(participant))
      .on(RoomEvent.ActiveSpeakersChanged, () => this._tellOthers())
      .on(RoomEvent.Reconnecting, () => this.emit("shaky"))
      .on(RoomEvent.Reconnected, () => this.emit("steady"))
      .on(RoomEvent.Disconnected, (reason) => this._onDisconnected(reason));

    try {
      await room.connect(url, token);
    } catch (error) {
      throw new Problem("no_livekit_connection", {
        detail: `The LiveKit server at ${url} does not let us in: ${error.message}`,
        mend: "Is it running, and reachable from this browser? The direct call needs none.",
      });
    }
    for (const participant of room.remoteParticipants.values()) this._onParticipant(participant);
    if (this._track) await this._publishMicrophone();
    await within(AGENT_MS, this._agentCame(), () => new Problem("agent_absent"));
    this.emit("joined", { identity, provider: this._provider, model: "", video: this._seen });
  }

  async _publishMicrophone() {
    const { Track } = this._sdk;
    const publication = await this._room.localParticipant.publishTrack(this._track, { source: Track.Source.Microphone });
    this._microphone = publication.track;
  }

  _agentCame() {
    if (this._agent) return Promise.resolve();
    return new Promise((resolve) => {
      this._onAgent = resolve;
    });
  }

  _onParticipant(participant) {
    if (participant.isLocal) return;
    const state = participant.attributes[STATE];
    if (isAgent(participant, this._sdk)) {
      this._agent = participant;
      this._onAgent?.();
      if (state) this.emit("state", state);
    }
    this._tellOthers();
  }

  _onLeft(participant) {
    if (participant === this._agent) void this._finish("agent_left", null);
    else this._tellOthers();
  }

  _onTrack(track, participant) {
    if (track.kind !== "audio") return;
    if (isAgent(participant, this._sdk)) {
      this._agentAudio = track;
      this.emit("voice", new MediaStream([track.mediaStreamTrack]));
    } else {
      track.attach();
    }
  }

  _onDisconnected(reason) {
    const { DisconnectReason } = this._sdk;
    const removed = [DisconnectReason.DUPLICATE_IDENTITY, DisconnectReason.PARTICIPANT_REMOVED, DisconnectReason.ROOM_DELETED];
    if (reason === DisconnectReason.CLIENT_INITIATED) void this._finish("hung_up", null);
    else void this._finish("lost", new Problem(removed.includes(reason) ? "removed" : "lost"));
  }

  /** The agent's words are one stream, read piece by piece; a person's are a stream for each whole text so far. */
  async _readCaption(reader, identity) {
    const { attributes = {} } = reader.info;
    const agents = identity === this._agent?.identity || (identity !== this._identity && this._agent === null);
    const caption = { segment: attributes["lk.segment_id"] ?? reader.info.id, speaker: agents ? "agent" : identity, interrupted: false };
    let first = true;
    try {
      for await (const piece of reader) {
        // A segment whose stream broke off is sent anew, with all of its text.
        this.emit("caption", { ...caption, text: piece, append: !first, final: false });
        first = false;
      }
    } catch {
      return; // it broke off: another stream follows with the whole text
    }
    const ends = agents || attributes["lk.transcription_final"] === "true";
    if (ends) this.emit("caption", { ...caption, text: "", append: true, final: true });
  }

  async _readEvent(reader, identity) {
    if (this._agent && identity !== this._agent.identity) return;
    try {
      const message = JSON.parse(await reader.readAll());
      if (message.type === "tool" || message.type === "turn") this.emit(message.type, message);
    } catch {
      // Broken off, or of a newer bridge.
    }
  }

  _tellOthers() {
    const others = [...(this._room?.remoteParticipants.values() ?? [])]
      .filter((one) => !isAgent(one, this._sdk))
      .map((one) => ({ identity: one.name || one.identity, speaking: one.isSpeaking }));
    this.emit("others", others);
  }

  /** A message that could not be sent is told, and no reason to end. */
  _told(sending) {
    sending?.catch?.(() => this.emit("trouble", new Problem("not_sent", { detail: "That could not be sent", mend: "Try again." })));
  }

  async _finish(reason, problem) {
    if (this.ended) return;
    this.emit("ended", { reason, problem });
    await this._leave();
  }

  async _leave() {
    this.ended = true;
    const room = this._room;
    this._room = this._agent = this._microphone = this._shared = this._agentAudio = null;
    if (room) {
      room.removeAllListeners();
      await room.disconnect(false);
    }
  }
}

/** Try again quickly, then every two seconds, and give up where a server would have let us go, too. */
function nextRetryDelayInMs({ retryCount, elapsedMs }) {
  return elapsedMs > AWAY_MS ? null : Math.min(200 * 2 ** retryCount, 2_000);
}

function isAgent(participant, sdk) {
  return participant.kind === sdk.ParticipantKind.AGENT || STATE in participant.attributes;
}
