/** The bridge's HTTP endpoints. Every failure is a `Problem`. */

import { serverProblem } from "./problems.js";

const TIMEOUT_MS = 15_000;
const KEPT = "roombridge.token";

export class Api {
  /** `base` is the page's own address: it may stand behind a path of a proxy. */
  constructor(base, token) {
    this._base = base;
    this._token = token;
  }

  get hasToken() {
    return this._token !== "";
  }

  /** What may be chosen: {providers, default, direct, livekit, livekit_client, ice_servers, video_sources}. */
  async config() {
    return (await this._ask("GET", "api/config", { token: this._token })).json();
  }

  /** A token for one call. */
  async callToken() {
    const answer = await this._ask("POST", "api/tokens", { token: this._token });
    return (await answer.json()).token;
  }

  /** Offer a direct call. Returns {answer, location}: the answer's SDP, and the call's address for its end. */
  async offer(provider, sdp, callToken) {
    const answer = await this._ask("POST", `api/calls?provider=${encodeURIComponent(provider)}`, {
      token: callToken,
      body: sdp,
      type: "application/sdp",
    });
    const location = answer.headers.get("Location") ?? "";
    return { answer: await answer.text(), location: location && new URL(location, answer.url).href };
  }

  /** End a direct call. Never fails: the call may be over already. */
  async end(location, callToken) {
    try {
      await fetch(location, { method: "DELETE", headers: { Authorization: `Bearer ${callToken}` }, keepalive: true });
    } catch {
      // The page or the network is going; the server notices by itself that we have left.
    }
  }

  /** A LiveKit room with the model in it: {url, token, room, identity}. */
  async room(provider, callToken) {
    const answer = await this._ask("POST", "api/rooms", {
      token: callToken,
      body: JSON.stringify({ provider }),
      type: "application/json",
    });
    return answer.json();
  }

  async _ask(method, path, { token, body, type }) {
    const headers = { Authorization: `Bearer ${token}` };
    if (type) headers["Content-Type"] = type;
    let answer;
    try {
      answer = await fetch(new URL(path, this._base), {
        method, headers, body, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch {
      throw serverProblem({ status: 0 });
    }
    if (!answer.ok) throw serverProblem({ status: answer.status, ...(await errorOf(answer)) });
    return answer;
  }
}

async function errorOf(answer) {
  try {
    return (await answer.json()).error ?? {};
  } catch {
    return {};
  }
}

/**
 * The page token of the address's fragment. It is taken out of the address bar, so that it is in no screenshot, and kept
 * for a reload of this tab.
 */
export function takeToken(location, history, storage) {
  const given = tokenIn(location.hash);
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    keepToken(storage, given);
    return given;
  }
  try {
    return storage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

export function keepToken(storage, token) {
  try {
    storage.setItem(KEPT, token);
  } catch {
    // Storage may be forbidden: then a reload asks for the address again.
  }
}

/** The token in "#token=...", in a whole address, or in the bare text. */
export function tokenIn(text) {
  const trimmed = String(text ?? "").trim();
  const found = /[#&?]token=([^&\s]+)/.exec(trimmed);
  if (found) {
    try {
      return decodeURIComponent(found[1]);
    } catch {
      return "";
    }
  }
  return /^[\w.~+/=-]{8,}$/.test(trimmed) && !trimmed.includes("://") ? trimmed : "";
}
