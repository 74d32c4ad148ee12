/**
 * What went wrong, in words for the person at the page: {code, title, mend, actions}. Actions are offered as buttons:
 * "again" (call again), "silent" (join without a microphone), "paste" (give the address), "direct" (use the direct call),
 * "sound" (let the browser play).
 */

const PROBLEMS = {
  microphone_refused: {
    title: "The browser may not use your microphone",
    mend: "Allow it at the lock or camera sign in the address bar, then start again.",
    actions: ["again", "silent"],
  },
  microphone_missing: {
    title: "No microphone was found",
    mend: "Plug one in or pick another under Devices. You can also join and type.",
    actions: ["again", "silent"],
  },
  microphone_busy: {
    title: "The microphone is in use",
    mend: "Close the program that holds it, or pick another under Devices.",
    actions: ["again", "silent"],
  },
  microphone_lost: {
    title: "The microphone went away",
    mend: "Plug it in again, or pick another under Devices. The call goes on.",
    actions: [],
  },
  insecure_page: {
    title: "Browsers give microphones to secure pages only",
    mend: "Open the page by https, or on the machine itself as http://127.0.0.1.",
    actions: ["silent"],
  },
  no_token: {
    title: "This address has no token",
    mend: "Open the whole address that roombridge printed, with everything after the #, or paste it here.",
    actions: ["paste"],
  },
  token_refused: {
    title: "The token is not accepted any more",
    mend: "roombridge makes a new one each time it starts. Open the address that it printed last, or paste it here.",
    actions: ["paste"],
  },
  full: {
    title: "All lines are busy",
    mend: "The bridge takes no more calls right now. Try again in a moment.",
    actions: ["again"],
  },
  too_fast: {
    title: "That was too quick",
    mend: "The bridge limits how often one may call. Try again in a moment.",
    actions: ["again"],
  },
  unreachable: {
    title: "The bridge does not answer",
    mend: "Is roombridge still running, and your network up? Then start again.",
    actions: ["again"],
  },
  no_connection: {
    title: "The sound could not get through",
    mend: "A firewall may block WebRTC. A TURN server in the configuration of roombridge helps, or a LiveKit room.",
    actions: ["again"],
  },
  lost: {
    title: "The connection was lost",
    mend: "Check your network, then call again. What was said stays on this page.",
    actions: ["again"],
  },
  no_livekit: {
    title: "There is no LiveKit server here",
    mend: "The direct call needs none.",
    actions: ["direct"],
  },
  livekit_client_missing: {
    title: "The LiveKit client is not installed",
    mend: "On the machine of roombridge: make page (needs npm). The direct call works without it.",
    actions: ["direct"],
  },
  agent_absent: {
    title: "Nobody is in the room",
    mend: "The model did not come. The log of roombridge says why; then call again.",
    actions: ["again"],
  },
  provider_failed: {
    title: "The model’s service failed",
    mend: "The log of roombridge says why: often a key, a quota, or an outage. Then call again, or choose another model.",
    actions: ["again"],
  },
  call_failed: {
    title: "The call broke off",
    mend: "The log of roombridge says why. Then call again.",
    actions: ["again"],
  },
  removed: {
    title: "You were taken out of the call",
    mend: "Somebody joined with the same name, or the room was closed.",
    actions: ["again"],
  },
  sound_blocked: {
    title: "The browser holds back the sound",
    mend: "It wants a press of a button first.",
    actions: ["sound"],
  },
  no_webrtc: {
    title: "This browser cannot make calls",
    mend: "It has no WebRTC. A current Chrome, Edge, Firefox or Safari has.",
    actions: [],
  },
  video_refused: {
    title: "The picture could not be shared",
    mend: "Allow the camera or choose a screen when the browser asks.",
    actions: [],
  },
};

/** An error that the page can explain. `mend` of the server, where it gave one, is shown instead of ours. */
export class Problem extends Error {
  constructor(code, { detail = "", mend = "" } = {}) {
    super(detail || code);
    this.code = code;
    this.detail = detail;
    this.mend = mend;
  }
}

/** What to show for any error. */
export function explain(error) {
  const known = Object.hasOwn(PROBLEMS, error?.code ?? "") ? PROBLEMS[error.code] : null;
  if (known) {
    return { code: error.code, title: known.title, mend: error.mend || known.mend, actions: known.actions };
  }
  const title = sentenceOf(error?.detail || error?.message) || "Something went wrong";
  return { code: "unknown", title, mend: error?.mend || "Start again. If it stays, the log of roombridge says more.", actions: ["again"] };
}

/** getUserMedia's errors as ours. */
export function microphoneProblem(error) {
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("microphone_refused");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem("microphone_missing");
    case "NotReadableError":
    case "AbortError":
      return new Problem("microphone_busy");
    default:
      return error;
  }
}

/** The server's answer {status, code, message, mend} as a problem of ours. */
export function serverProblem({ status, code = "", message = "", mend = "" }) {
  if (status === 0) return new Problem("unreachable");
  if (code === "no_livekit") return new Problem("no_livekit", { mend });
  if (status === 401) return new Problem("token_refused");
  if (status === 503) return new Problem("full", { mend });
  if (status === 429) return new Problem("too_fast", { mend });
  return new Problem(code || `http_${status}`, { detail: message || `The bridge answered ${status}`, mend });
}

/** How a call's end is told, by the server's word for it. */
export function endWords(reason) {
  const words = {
    hung_up: "You hung up.",
    requested: "The bridge ended the call.",
    participant_left: "The call is over.",
    room_empty: "The call is over.",
    agent_left: "The model left the room.",
    lost: "The connection was lost.",
  };
  return Object.hasOwn(words, reason) ? words[reason] : "The call is over.";
}

function sentenceOf(text) {
  const trimmed = String(text ?? "").trim();
  return trimmed ? trimmed[0].toUpperCase() + trimmed.slice(1) : "";
}
