/** Puts the page together: one call at a time, from the lobby to its end. */

import { Api, keepToken, takeToken, tokenIn } from "./api.js";
import { DirectCall } from "./call-direct.js";
import { LiveKitCall } from "./call-livekit.js";
import { CaptionsView } from "./captions-view.js";
import { DevicesView } from "./devices-view.js";
import { byId } from "./dom.js";
import { FactsView } from "./facts-view.js";
import { Lobby } from "./lobby.js";
import { Meters } from "./meters.js";
import { Microphone } from "./microphone.js";
import { Prefs } from "./prefs.js";
import { ProblemView } from "./problem-view.js";
import { Problem, endWords } from "./problems.js";
import { Sharing } from "./sharing.js";
import { listenForShortcuts } from "./shortcuts.js";
import { Speaker } from "./speaker.js";
import { Stage } from "./stage.js";
import { TimelineView } from "./timeline-view.js";

const STATS_MS = 1_000;

class Page {
  constructor() {
    this.prefs = new Prefs(localStorage);
    this.api = new Api(document.baseURI, takeToken(location, history, sessionStorage));
    this.config = null;
    this.call = null;
    this.identity = "";
    this.agentState = "idle";
    this.microphone = new Microphone();
    this.speaker = new Speaker(byId("voice"));
    this.meters = new Meters();
    this.stage = new Stage();
    this.sharing = new Sharing();
    this.lobby = new Lobby(this.prefs);
    this.timeline = new TimelineView();
    this.facts = new FactsView();
    this.captions = new CaptionsView({ announce: (text) => this.announce(text, "announce"), isMe: (who) => who === this.identity });
    this.problems = new ProblemView({
      again: () => void this.talk(),
      silent: () => void this.talk({ silent: true }),
      direct: () => {
        this.lobby.usePath("direct");
        void this.talk();
      },
      sound: () => void this.guard(this.speaker.resume()),
      paste: (text) => void this.useToken(text),
    });
    this.devices = new DevicesView({
      prefs: this.prefs,
      onMicrophone: (id) => this.changeMicrophone(id),
      onSpeaker: (id) => this.speaker.choose(id),
    });
    this.listen();
  }

  listen() {
    byId("lobby").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.talk();
    });
    byId("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.sayTyped();
    });
    byId("mute").addEventListener("click", () => this.toggleMute());
    byId("interrupt").addEventListener("click", () => this.interrupt());
    byId("hang-up").addEventListener("click", () => void this.call?.hangUp());
    for (const kind of ["camera", "screen"]) {
      byId(kind).addEventListener("click", () => void this.guard(this.sharing.toggle(kind, this.call)));
    }
    byId("open-help").addEventListener("click", () => byId("help").showModal());
    this.microphone.on("changed", (track) => this.onMicrophone(track));
    this.microphone.on("lost", () => this.problems.show(new Problem("microphone_lost")));
    addEventListener("pagehide", () => void this.call?.hangUp());
    listenForShortcuts(
      {
        mute: () => this.toggleMute(),
        interrupt: () => this.interrupt(),
        type: () => this.focusText(),
        help: () => byId("help").showModal() ?? true,
      },
      () => this.prefs.get("singleKeys"),
    );
  }

  /** Ask the bridge what may be chosen. */
  async open() {
    if (!this.api.hasToken) {
      byId("talk").disabled = true;
      this.problems.show(new Problem("no_token"));
      return;
    }
    byId("talk").disabled = true;
    try {
      this.config = await this.api.config();
      this.lobby.fill(this.config);
      byId("talk").disabled = false;
    } catch (error) {
      this.problems.show(error);
    }
  }

  async useToken(text) {
    const token = tokenIn(text);
    if (!token) {
      this.problems.show(new Problem("no_token"));
      return;
    }
    keepToken(sessionStorage, token);
    this.problems.hide();
    this.api = new Api(document.baseURI, token);
    await this.open();
  }

  /** Start a call. Args: silent joins without a microphone. */
  async talk({ silent = false } = {}) {
    if (this.call) return;
    if (!this.config) {
      await this.open();
      if (!this.config) return;
    }
    this.problems.hide();
    byId("talk").disabled = true;
    this.connection("busy", "Connecting");
    this.stage.show("connecting");
    try {
      if (silent) this.microphone.close();
      else await this.microphone.open({ deviceId: this.prefs.get("microphone"), clean: this.prefs.get("cleanVoice") });
      await this.speaker.choose(this.prefs.get("speaker"));
      await this.dial();
    } catch (error) {
      this.over("The call did not start", "");
      this.problems.show(error);
    }
  }

  async dial() {
    const options = {
      api: this.api, base: document.baseURI, iceServers: this.config.ice_servers,
      provider: this.lobby.provider, track: this.microphone.track, video: this.lobby.video,
    };
    const call = this.lobby.path === "livekit" ? new LiveKitCall(options) : new DirectCall(options);
    this.call = call;
    this.captions.begin();
    this.timeline.begin();
    call.on("joined", (facts) => this.onJoined(facts));
    call.on("state", (state) => {
      this.agentState = state;
      this.stage.show(state);
    });
    call.on("caption", (caption) => this.captions.caption(caption));
    call.on("tool", (tool) => this.captions.tool(tool));
    call.on("turn", (turn) => this.timeline.turn(turn));
    call.on("voice", (stream) => void this.onVoice(stream));
    call.on("others", (people) => this.stage.others(people));
    call.on("trouble", (problem) => this.problems.show(problem));
    call.on("shaky", () => this.onShaky());
    call.on("steady", () => this.onSteady());
    call.on("ended", (end) => this.onEnded(end));
    await call.start();
  }

  onJoined({ identity, model, video }) {
    this.identity = identity;
    document.body.dataset.view = "call";
    document.body.dataset.call = "live";
    byId("lobby").hidden = true;
    byId("in-call").hidden = byId("controls").hidden = false;
    const shares = (kind) => video && this.config.video_sources.includes(kind);
    byId("camera").hidden = !shares("camera");
    byId("screen").hidden = !shares("screen") || !navigator.mediaDevices?.getDisplayMedia;
    byId("voice-agent-name").textContent = this.lobby.title || model || "Model";
    byId("say-text").disabled = byId("say-send").disabled = false;
    if (this.stage.state === "connecting") this.stage.show("idle");
    this.stage.muted(this.microphone.muted, this.microphone.track !== null);
    this.connection("good", "Connected");
    this.announce("Connected. You can speak now.");
    byId("mute").disabled ? byId("say-text").focus() : byId("mute").focus({ preventScroll: true });
    this.facts.begin({ title: this.lobby.title, model, path: this.lobby.path });
    this.statsTimer = setInterval(() => void this.showStats(), STATS_MS);
  }

  onEnded({ reason, problem }) {
    const words = problem ? "" : endWords(reason);
    this.captions.note(words || "The call broke off.");
    this.over("Call ended", words);
    if (problem) this.problems.show(problem);
    this.announce(`Call ended. ${words}`);
    byId("talk").focus({ preventScroll: true });
  }

  /** Back to where a call can be started, whatever there was. */
  over(word, note) {
    clearInterval(this.statsTimer);
    this.facts.end();
    this.call = null;
    void this.sharing.stop();
    this.meters.close();
    this.microphone.close();
    this.speaker.stop();
    document.body.dataset.call = "none";
    byId("in-call").hidden = byId("controls").hidden = true;
    byId("lobby").hidden = false;
    byId("say-text").disabled = byId("say-send").disabled = true;
    byId("talk").disabled = false;
    byId("talk-text").textContent = document.body.dataset.view === "call" ? "Talk again" : "Start talking";
    this.connection("idle", "Not connected");
    this.stage.rest(word, note);
  }

  async onVoice(stream) {
    this.meters.watch("agent", stream, (shown, now) => this.stage.level("agent", shown, now));
    await this.guard(this.speaker.play(stream));
  }

  onMicrophone(track) {
    this.meters.watch("you", new MediaStream([track]), (shown, now) => {
      this.stage.level("you", shown, now);
      if (shown.speaking && !this.microphone.muted) this.captions.book.heardUser(now);
    });
  }

  onShaky() {
    this.connection("bad", "Reconnecting");
    this.stage.show("reconnecting");
    this.announce("The connection is away. Reconnecting.");
  }

  onSteady() {
    this.connection("good", "Connected");
    if (this.stage.state === "reconnecting") this.stage.show(this.agentState);
  }

  async changeMicrophone(deviceId) {
    if (!this.call) return;
    await this.guard(
      (async () => {
        await this.microphone.open({ deviceId, clean: this.prefs.get("cleanVoice") });
        await this.call.replaceMicrophone(this.microphone.track);
        this.stage.muted(this.microphone.muted, true);
      })(),
    );
  }

  toggleMute() {
    if (!this.call || !this.microphone.track) return false;
    const muted = !this.microphone.muted;
    this.microphone.setMuted(muted);
    this.call.setMuted(muted);
    this.stage.muted(muted, true);
    this.announce(muted ? "Microphone muted" : "Microphone on");
    return true;
  }

  interrupt() {
    if (!this.call || byId("interrupt").getAttribute("aria-disabled") === "true") return false;
    this.call.interrupt();
    return true;
  }

  focusText() {
    if (!this.call) return false;
    byId("say-text").focus();
    return true;
  }

  sayTyped() {
    const field = byId("say-text");
    const text = field.value.trim();
    if (!text || !this.call) return;
    this.call.sendText(text);
    this.captions.typed(text);
    field.value = "";
  }

  async showStats() {
    const stats = await this.call?.stats();
    this.facts.update(stats);
    if (stats?.roundTripMs != null && byId("connection").dataset.tone === "good") {
      this.connection("good", `Connected, ${Math.round(stats.roundTripMs)} ms`);
    }
  }

  connection(tone, text) {
    byId("connection").dataset.tone = tone;
    byId("connection-text").textContent = text;
  }

  /** Say it to a screen reader. Args: pref names a switch that must be on. */
  announce(text, pref) {
    if (!pref || this.prefs.get(pref)) byId("announcer").textContent = text;
  }

  /** Show what fails; the call goes on. */
  async guard(work) {
    try {
      await work;
    } catch (error) {
      this.problems.show(error);
    }
  }
}

void new Page().open();
