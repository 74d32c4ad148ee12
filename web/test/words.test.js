import assert from "node:assert/strict";
import test from "node:test";

import { takeToken, tokenIn } from "../js/api.js";
import { Call } from "../js/call.js";
import { Prefs } from "../js/prefs.js";
import { Problem, endWords, explain, microphoneProblem, serverProblem } from "../js/problems.js";
import { actionFor } from "../js/shortcuts.js";

test("a token is found in an address, a fragment, or alone", () => {
  assert.equal(tokenIn("#token=abc.def-123"), "abc.def-123");
  assert.equal(tokenIn(" http://127.0.0.1:8080/#token=a%2Bb_c "), "a+b_c");
  assert.equal(tokenIn("eyJhbGciOi.J9.x_y-z"), "eyJhbGciOi.J9.x_y-z");
  for (const other of ["", "#", "http://127.0.0.1:8080/", "two words here", "#token=%E0%A4%A", null]) assert.equal(tokenIn(other), "", String(other));
});

test("the token leaves the address bar and is kept for a reload", () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const shown = [];
  const history = { replaceState: (_, __, address) => shown.push(address) };
  assert.equal(takeToken({ hash: "#token=abcdefgh", pathname: "/x/", search: "?a=1" }, history, storage), "abcdefgh");
  assert.deepEqual(shown, ["/x/?a=1"]);
  assert.equal(takeToken({ hash: "", pathname: "/", search: "" }, history, storage), "abcdefgh");
});

test("every refusal of the server says what to do", () => {
  const codes = {
    unreachable: { status: 0 },
    token_refused: { status: 401, code: "token_used" },
    full: { status: 503, code: "full", mend: "Try again in 20 s." },
    too_fast: { status: 429 },
    no_livekit: { status: 404, code: "no_livekit" },
  };
  for (const [code, answer] of Object.entries(codes)) {
    const told = explain(serverProblem(answer));
    assert.equal(told.code, code);
    assert.ok(told.title && told.mend && told.actions.length, code);
  }
  assert.equal(explain(serverProblem(codes.full)).mend, "Try again in 20 s.");
  const other = explain(serverProblem({ status: 400, code: "bad_offer", message: "no audio in it", mend: "add audio" }));
  assert.deepEqual([other.title, other.mend], ["No audio in it", "add audio"]);
  const refused = explain(serverProblem({ status: 403, code: "origin_refused", message: "not that page", mend: "add it" }));
  assert.deepEqual([refused.title, refused.mend], ["Not that page", "add it"], "another token would not help");
});

test("a microphone that cannot be had is told apart from one that is forbidden", () => {
  const of = (name) => microphoneProblem({ name }).code;
  assert.deepEqual(["NotAllowedError", "NotFoundError", "NotReadableError"].map(of), ["microphone_refused", "microphone_missing", "microphone_busy"]);
  assert.ok(explain(new Problem("microphone_refused")).actions.includes("silent"));
});

test("an error that nobody foresaw still says something", () => {
  assert.equal(explain(new TypeError("x is not a function")).title, "X is not a function");
  assert.equal(explain(undefined).title, "Something went wrong");
  assert.equal(endWords("something_new"), "The call is over.");
  for (const odd of ["constructor", "toString", "__proto__"]) {
    assert.deepEqual(explain(new Problem(odd, { detail: "odd" })).actions, ["again"]);
    assert.equal(endWords(odd), "The call is over.");
  }
});

test("single keys rest while somebody types, Escape does not", () => {
  assert.equal(actionFor({ key: "m" }, false, true), "mute");
  assert.equal(actionFor({ key: "m" }, true, true), null);
  assert.equal(actionFor({ key: "m" }, false, false), null);
  assert.equal(actionFor({ key: "Escape" }, true, false), "interrupt");
  assert.equal(actionFor({ key: "q" }, false, true), null);
});

test("choices of another kind than ours are not taken from storage", () => {
  const storage = { getItem: () => JSON.stringify({ provider: "openai", announce: "yes", strange: 1 }), setItem: () => { throw new Error("full"); } };
  const prefs = new Prefs(storage);
  assert.equal(prefs.get("provider"), "openai");
  assert.equal(prefs.get("announce"), true);
  prefs.set("path", "livekit");
  assert.equal(prefs.get("path"), "livekit");
});

test("a call tells its end once, and only if it stood", () => {
  const told = [];
  const stood = new Call();
  stood.on("ended", ({ reason }) => told.push(reason));
  stood.emit("joined", {});
  stood.emit("ended", { reason: "hung_up" });
  stood.emit("ended", { reason: "lost" });
  const never = new Call();
  never.on("ended", () => told.push("never"));
  never.emit("ended", { reason: "lost" });
  assert.deepEqual(told, ["hung_up"]);
});
