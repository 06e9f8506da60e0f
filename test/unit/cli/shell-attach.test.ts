// Leaving a shell: the keys that do it are found in what is typed, and the terminal is put back as it was.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DetachKey } from "../../../src/cli/detach-key.ts";
import { TerminalModes } from "../../../src/cli/terminal-modes.ts";

function typed(keys: string, ...chunks: string[]) {
  const key = new DetachKey(keys);
  let sent = "";
  for (const chunk of chunks) {
    const { data, detached } = key.take(Buffer.from(chunk, "latin1"));
    sent += Buffer.from(data).toString("latin1");
    if (detached) return { sent, detached };
  }
  return { sent, detached: false };
}

test("one key: what stands before it is sent, what follows is not", () => {
  assert.deepEqual(typed("C-]", "ls\r", "ab\x1dcd"), { sent: "ls\rab", detached: true });
  assert.deepEqual(typed("C-]", "ls\r"), { sent: "ls\r", detached: false });
});

test("several in a row, in any cut; what only looked like them is sent after all", () => {
  for (const keys of ["C-p C-q", "ctrl-p,ctrl-q"]) {
    assert.deepEqual(typed(keys, "a\x10", "\x11b"), { sent: "a", detached: true }, keys);
    assert.deepEqual(typed(keys, "a\x10", "b"), { sent: "a\x10b", detached: false });
    assert.deepEqual(typed(keys, "\x10\x10", "\x11"), { sent: "\x10", detached: true });
  }
  assert.deepEqual(typed("a a b", "aaab"), { sent: "a", detached: true });
  assert.deepEqual(typed("a b a c", "ababac"), { sent: "ab", detached: true });
});

test("what is no key is refused", () => {
  assert.throws(() => new DetachKey("C-nothing"), /There is no key/);
  assert.throws(() => new DetachKey(" "), /must not be empty/);
});

function restored(...chunks: string[]): string {
  const modes = new TerminalModes();
  for (const chunk of chunks) modes.note(Buffer.from(chunk, "latin1"));
  return modes.restore;
}

test("modes that a program has set are put back, those that it put back itself are not", () => {
  const always = "\x1b[0m\x1b7\x1b[r\x1b8";
  assert.equal(restored(), "");
  assert.equal(restored("text"), always);
  assert.equal(restored("\x1b[?2004h", "\x1b[?2004l"), always);
  assert.equal(restored("\x1b[?25l\x1b[?1049h\x1b[?1h\x1b="), `\x1b[?1049l\x1b[?25h\x1b[?1l\x1b>${always}`);
  assert.equal(restored("\x1b[?1000;1006h"), `\x1b[?1000l\x1b[?1006l${always}`);
  assert.equal(restored("\x1b[?1049h\x1bc"), always);
});

test("a sequence that is cut counts like one that is not", () => {
  const whole = "\x1b[?1049h";
  for (let at = 1; at < whole.length; at++) {
    assert.equal(restored(`x${whole.slice(0, at)}`, `${whole.slice(at)}y`), restored(`x${whole}y`), String(at));
  }
  assert.equal(restored("\x1b", "[?104", "9h"), restored(whole));
  assert.equal(restored(`\x1b${"x".repeat(100)}`), restored("x"));
});
