import assert from "node:assert/strict";
import test from "node:test";

import { TurnBook, formatMs, medianMs, scaleMs, sentence, stretches, ticks, totalMs } from "../js/turns.js";

const turn = (number, known, started, speech, audible) => ({ turn: number, turn_known_ms: known, reply_started_ms: started, first_speech_ms: speech, audible_ms: audible });

test("the stretches of a turn join without holes", () => {
  assert.deepEqual(stretches(turn(1, 500, 560, 760, 790)), [
    { kind: "known", fromMs: 0, toMs: 500 },
    { kind: "started", fromMs: 500, toMs: 560 },
    { kind: "speech", fromMs: 560, toMs: 760 },
    { kind: "audible", fromMs: 760, toMs: 790 },
  ]);
});

test("an unknown mark leaves its time to the next", () => {
  assert.deepEqual(stretches(turn(1, null, 560, null, 790)), [
    { kind: "started", fromMs: 0, toMs: 560 },
    { kind: "audible", fromMs: 560, toMs: 790 },
  ]);
});

test("a mark before its forerunner takes no room and moves nothing back", () => {
  const found = stretches(turn(1, 600, 550, 700, 705));
  assert.deepEqual(found.map(({ kind }) => kind), ["known", "speech", "audible"]);
  assert.equal(found[1].fromMs, 600);
});

test("a turn that was answered before its end was known begins at zero", () => {
  assert.equal(totalMs(turn(1, -20, -10, -5, -1)), 0);
  assert.deepEqual(stretches(turn(1, -20, -10, -5, -1)), []);
});

test("a turn that ended without a sound has the last mark that is known", () => {
  assert.equal(totalMs(turn(1, 500, 560, null, null)), 560);
  assert.equal(totalMs(turn(1, null, null, null, null)), null);
});

test("the scale is round, holds every turn and divides into round parts", () => {
  assert.equal(scaleMs([]), 500);
  assert.equal(scaleMs([turn(1, 0, 0, 0, 640), turn(2, 0, 0, 0, 1480)]), 1500);
  assert.equal(scaleMs([turn(1, 0, 0, 0, 41_000)]), 50_000);
  for (const end of [500, 1000, 1500, 2000, 3000, 4000, 5000, 8000, 50_000]) {
    const marks = ticks(end);
    assert.equal(marks.at(-1), end);
    assert.ok(marks.length <= 6 && marks.every((mark) => mark % 25 === 0), `${end}: ${marks}`);
  }
});

test("the median is of the known ones", () => {
  assert.equal(medianMs([turn(1, 0, 0, 0, 900), turn(2, null, null, null, null), turn(3, 0, 0, 0, 700)]), 800);
  assert.equal(medianMs([]), null);
});

test("a sentence tells what is known and leaves out the rest", () => {
  assert.equal(sentence(turn(3, 500, null, null, 1210)), "Turn 3: end of speech noticed after 500 ms, audible after 1.21 s.");
  assert.equal(sentence({ ...turn(5, null, null, null, 210), typed: true }), "Turn 5, typed: audible after 210 ms.");
  assert.equal(sentence(turn(4, null, null, null, null)), "Turn 4: no times known.");
});

test("times are short", () => {
  assert.deepEqual([0, 999.6, 1210, 12_340, null].map(formatMs), ["0 ms", "1.00 s", "1.21 s", "12.3 s", "–"]);
});

test("the book keeps the newest turns, one each", () => {
  const book = new TurnBook({ limit: 2 });
  book.apply(turn(1, 0, 0, 0, 1));
  book.apply(turn(3, 0, 0, 0, 1));
  book.apply(turn(2, 0, 0, 0, 1));
  book.apply(turn(3, 0, 0, 0, 9));
  assert.deepEqual(book.turns.map(({ turn: number, audible_ms }) => [number, audible_ms]), [[2, 1], [3, 9]]);
});
