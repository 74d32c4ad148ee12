import assert from "node:assert/strict";
import test from "node:test";

import { CaptionBook } from "../js/captions.js";

const agent = (segment, text, more = {}) => ({ segment, speaker: "agent", text, append: true, final: false, interrupted: false, ...more });
const user = (segment, text, more = {}) => ({ segment, speaker: "ada", text, append: false, final: false, interrupted: false, ...more });
const texts = (book) => book.lines.map((line) => line.text);

test("the agent's pieces follow each other in one line", () => {
  const book = new CaptionBook();
  assert.equal(book.apply(agent("a1", "Good "), 0).added, true);
  assert.equal(book.apply(agent("a1", "morning."), 10).added, false);
  book.apply(agent("a1", "", { final: true }), 20);
  assert.deepEqual(texts(book), ["Good morning."]);
  assert.equal(book.lines[0].final, true);
});

test("a person's newer text replaces the older one", () => {
  const book = new CaptionBook();
  book.apply(user("u1", "What"), 0);
  book.apply(user("u1", "What time"), 10);
  book.apply(user("u1", "What time is it?", { final: true }), 20);
  assert.deepEqual(texts(book), ["What time is it?"]);
});

test("an end that carries no text keeps the words", () => {
  const book = new CaptionBook();
  book.apply(user("u1", "Hello"), 0);
  book.apply(user("u1", "", { final: true }), 10);
  assert.deepEqual(texts(book), ["Hello"]);
});

test("a segment sent anew does not double its words", () => {
  const book = new CaptionBook();
  book.apply(agent("a1", "One two "), 0);
  book.apply(agent("a1", "One two three", { append: false }), 10);
  assert.deepEqual(texts(book), ["One two three"]);
});

test("a reply that was cut says so for good", () => {
  const book = new CaptionBook();
  book.apply(agent("a1", "Once upon"), 0);
  book.apply(agent("a1", "", { final: true, interrupted: true }), 10);
  book.apply(agent("a1", "", { final: true }), 20);
  assert.equal(book.lines[0].interrupted, true);
});

test("an end without a beginning shows nothing", () => {
  const book = new CaptionBook();
  assert.equal(book.apply(agent("a1", "", { final: true }), 0), null);
  assert.deepEqual(book.lines, []);
});

test("words that were said before the answer stand before it, however late they come", () => {
  const book = new CaptionBook();
  book.heardUser(100);
  book.tool({ call_id: "c1", name: "weather", state: "started" }, 150);
  book.apply(agent("a1", "It is noon."), 200);
  const { before } = book.apply(user("u1", "What time is it?"), 300);
  assert.equal(before.text, "weather");
  assert.deepEqual(texts(book), ["What time is it?", "weather", "It is noon."]);
});

test("words that interrupt the answer stand behind it", () => {
  const book = new CaptionBook();
  book.apply(agent("a1", "Once upon a time"), 200);
  book.heardUser(250);
  book.apply(user("u1", "Stop"), 300);
  assert.deepEqual(texts(book), ["Once upon a time", "Stop"]);
});

test("a typed message is a bound that late words do not pass", () => {
  const book = new CaptionBook();
  book.typed("Hello", "me", 10);
  book.apply(agent("a1", "Hi."), 20);
  book.apply(user("u1", "Late"), 30);
  assert.deepEqual(texts(book), ["Hello", "Late", "Hi."]);
});

test("a tool call changes in place", () => {
  const book = new CaptionBook();
  book.tool({ call_id: "c1", name: "weather", state: "started", ms: 0 }, 0);
  const { added, line } = book.tool({ call_id: "c1", name: "weather", state: "answered", ms: 412 }, 10);
  assert.equal(added, false);
  assert.deepEqual([line.state, line.ms, line.final], ["answered", 412, true]);
});

test("full, the oldest lines go and are counted", () => {
  const book = new CaptionBook({ limit: 3 });
  for (let n = 1; n <= 5; n += 1) book.apply(user(`u${n}`, `line ${n}`), n);
  assert.deepEqual(texts(book), ["line 3", "line 4", "line 5"]);
  assert.equal(book.dropped, 2);
});

test("another call may name its segments and tool calls as the one before did", () => {
  const book = new CaptionBook();
  for (const words of ["First.", "Second."]) {
    book.begin();
    book.apply(agent("agent-1-1", words, { final: true }), 0);
    book.tool({ call_id: "1", name: "clock", state: "answered", ms: 5 }, 0);
  }
  assert.deepEqual(texts(book), ["First.", "clock", "Second.", "clock"]);
});
