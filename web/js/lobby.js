/** What is chosen before a call: the model and the way to it. */

import { byId, make } from "./dom.js";

const PATH_HINTS = {
  direct: "Straight from this browser to the bridge, nothing between.",
  livekit: "Through a LiveKit server; others can join the room.",
};

export class Lobby {
  constructor(prefs) {
    this._prefs = prefs;
    this._config = null;
    for (const radio of this._paths()) {
      radio.addEventListener("change", () => {
        this._prefs.set("path", this.path);
        this._explainPath();
      });
    }
  }

  get provider() {
    return document.querySelector("input[name=provider]:checked")?.value ?? "";
  }

  get path() {
    return document.querySelector("input[name=path]:checked")?.value ?? "direct";
  }

  /** The title of the chosen model. */
  get title() {
    const chosen = this._config?.providers.find(({ name }) => name === this.provider);
    return titleParts(chosen?.title || this.provider).head;
  }

  /** Whether the chosen model sees what is shared. */
  get video() {
    return Boolean(this._config?.providers.find(({ name }) => name === this.provider)?.video);
  }

  usePath(path) {
    for (const radio of this._paths()) radio.checked = radio.value === path;
    this._explainPath();
  }

  /** Offer what the bridge has. */
  fill(config) {
    this._config = config;
    this._fillProviders(config.providers, config.default);
    const open = { direct: config.direct, livekit: config.livekit && config.livekit_client };
    const wanted = this._prefs.get("path");
    for (const radio of this._paths()) radio.disabled = !open[radio.value];
    byId("paths").hidden = false;
    this.usePath(open[wanted] ? wanted : open.direct ? "direct" : "livekit");
  }

  _fillProviders(providers, usual) {
    const ready = providers.filter((one) => one.ready);
    const kept = ready.find((one) => one.name === this._prefs.get("provider"));
    const chosen = kept ?? ready.find((one) => one.name === usual) ?? ready[0];
    byId("provider-cards").replaceChildren(...providers.map((one) => this._card(one, one === chosen)));
    byId("providers").hidden = !providers.length;
  }

  _card({ name, model, title, ready }, checked) {
    const radio = make("input", { type: "radio", name: "provider", value: name, disabled: !ready });
    radio.checked = checked;
    radio.addEventListener("change", () => this._prefs.set("provider", name));
    const { head, rest } = titleParts(title || name);
    const note = ready ? rest || model : "needs a key in roombridge’s environment";
    return make("label", { class: "option" }, radio,
      make("span", { class: "option-words" }, make("span", { class: "option-title" }, head), make("small", {}, note)));
  }

  _explainPath() {
    const { path } = this;
    byId("path-hint").textContent = [PATH_HINTS[path], this._config && whyNoRooms(this._config)].filter(Boolean).join(" ");
  }

  _paths() {
    return document.querySelectorAll("input[name=path]");
  }
}

/** Why only direct calls can be chosen, or nothing. */
function whyNoRooms(config) {
  if (!config.livekit) return "No LiveKit server here, so calls are direct.";
  return config.livekit_client ? "" : "The LiveKit client is not installed here (make page), so calls are direct.";
}

/** "offline: repeats what it hears" as a heading and its explanation. */
export function titleParts(title) {
  const [head, ...rest] = title.split(": ");
  return { head: head.charAt(0).toUpperCase() + head.slice(1), rest: rest.join(": ") };
}
