import assert from "node:assert/strict";
import test from "node:test";

import { Needle, SpeechLamp, levelOf } from "../js/levels.js";

const tone = (amplitude) => Float32Array.from({ length: 1024 }, (_, n) => amplitude * Math.sin((2 * Math.PI * n) / 32));

test("silence is 0, a loud voice 1, and equal steps of dB are equal steps", () => {
  assert.equal(levelOf(new Float32Array(1024)), 0);
  assert.equal(levelOf(tone(1)), 1);
  const steps = [0.01, 0.02, 0.04].map((amplitude) => levelOf(tone(amplitude)));
  assert.ok(Math.abs(steps[1] - steps[0] - (steps[2] - steps[1])) < 1e-6);
});

test("the needle rises at once and falls slowly", () => {
  const needle = new Needle({ fallPerSecond: 2 });
  assert.equal(needle.move(0.9, 0), 0.9);
  assert.ok(Math.abs(needle.move(0, 100) - 0.7) < 1e-9);
  assert.equal(needle.move(0, 5000), 0);
});

test("a click lights no lamp, speech does, and a pause between words keeps it", () => {
  const lamp = new SpeechLamp();
  assert.equal(lamp.move(0.9, 0), false);
  assert.equal(lamp.move(0, 20), false);
  for (let now = 100; now <= 200; now += 20) lamp.move(0.6, now);
  assert.equal(lamp.lit, true);
  for (let now = 220; now < 500; now += 20) lamp.move(0, now);
  assert.equal(lamp.lit, true);
  for (let now = 500; now <= 700; now += 20) lamp.move(0, now);
  assert.equal(lamp.lit, false);
});
