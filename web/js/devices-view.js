/** The dialog of devices and switches. */

import { byId, make } from "./dom.js";
import { canChooseSpeaker, listDevices } from "./microphone.js";

export class DevicesView {
  /** Args: prefs; onMicrophone(id), onSpeaker(id) are told what was picked. */
  constructor({ prefs, onMicrophone, onSpeaker }) {
    this._prefs = prefs;
    this._dialog = byId("settings");
    byId("open-settings").addEventListener("click", () => void this.open());
    byId("speaker-field").hidden = !canChooseSpeaker;
    this._pick("microphone", onMicrophone);
    this._pick("speaker", onSpeaker);
    this._switch("clean-voice", "cleanVoice");
    this._switch("announce", "announce");
    this._switch("single-keys", "singleKeys");
    navigator.mediaDevices?.addEventListener?.("devicechange", () => void this._fill());
  }

  async open() {
    await this._fill();
    if (!this._dialog.open) this._dialog.showModal();
  }

  async _fill() {
    const { microphones, speakers } = await listDevices();
    this._offer("microphone", microphones);
    this._offer("speaker", speakers);
  }

  _offer(name, devices) {
    const chosen = this._prefs.get(name);
    const usual = devices.some(({ id }) => id === "") ? [] : [{ id: "", name: `Default ${name}` }];
    byId(name).replaceChildren(...[...usual, ...devices].map(({ id, name: label }) => make("option", { value: id, selected: id === chosen }, label)));
  }

  _pick(name, tell) {
    byId(name).addEventListener("change", ({ target }) => {
      this._prefs.set(name, target.value);
      void tell(target.value);
    });
  }

  _switch(id, pref) {
    const box = byId(id);
    box.checked = this._prefs.get(pref);
    box.addEventListener("change", () => this._prefs.set(pref, box.checked));
  }
}
