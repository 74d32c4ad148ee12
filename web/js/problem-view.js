/** The banner that says what went wrong and what to do. */

import { byId, make } from "./dom.js";
import { explain } from "./problems.js";

const LABELS = {
  again: "Try again",
  silent: "Join without a microphone",
  direct: "Use the direct call",
  sound: "Play the sound",
};

export class ProblemView {
  /** Args: acts {again, silent, direct, sound} for the buttons, and paste(text) for the token's field. */
  constructor(acts) {
    this._acts = acts;
    this._banner = byId("problem");
    byId("problem-close").addEventListener("click", () => this.hide());
    byId("paste-token").addEventListener("submit", (event) => {
      event.preventDefault();
      acts.paste(byId("pasted").value);
    });
  }

  get shown() {
    return this._banner.hidden ? "" : this._banner.dataset.code;
  }

  show(error) {
    const { code, title, mend, actions } = explain(error);
    this._banner.dataset.code = code;
    byId("problem-title").textContent = title;
    byId("problem-mend").textContent = mend;
    byId("paste-token").hidden = !actions.includes("paste");
    byId("problem-actions").replaceChildren(
      ...actions.filter((name) => name in LABELS).map((name) => {
        const button = make("button", { type: "button", class: "secondary" }, LABELS[name]);
        button.addEventListener("click", () => {
          this.hide();
          this._acts[name]();
        });
        return button;
      }),
    );
    this._banner.hidden = false;
  }

  hide() {
    this._banner.hidden = true;
    this._banner.dataset.code = "";
  }
}
