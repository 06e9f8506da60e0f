// A client's head and controls: what is none is refused with a code, whatever it is, and what a newer client has more
// of is passed over.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readControl, readHead } from "../../../src/daemon/frames.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { type Frame, ToDaemon } from "../../../src/wire/protocol.ts";

const HEAD = { input: { command: ["true"] }, attached: true, stdin_closed: true };

function frame(type: number, value: unknown): Frame {
  return { type, payload: Buffer.from(typeof value === "string" ? value : JSON.stringify(value)) };
}

const head = (value: unknown) => readHead(frame(ToDaemon.Head, value));
const control = (value: unknown) => readControl(frame(ToDaemon.Control, value));
const refused = (thrown: unknown) => thrown instanceof PyroError && thrown.code === "INVALID_INPUT";

test("a head is taken as it is, without what it has too much", () => {
  assert.deepEqual(head({ ...HEAD, of_tomorrow: 1 }), HEAD);
  const resumed = {
    ...HEAD,
    vm_id: "vm_x",
    resume: { cursor: "17", stdin_offset: 3 },
    terminal: { columns: 80, rows: 24 },
  };
  assert.deepEqual(head(resumed), resumed);
});

test("a head that is none is refused", () => {
  for (const value of ["", "{", "null", "7", "[]", "{}", { ...HEAD, attached: "yes" }, { ...HEAD, vm_id: 7 }]) {
    assert.throws(() => head(value), refused, JSON.stringify(value));
  }
  for (const cursor of ["", "x", "-1", "1.5", "c7", "0x10", " 7", "9".repeat(40), 7, null]) {
    assert.throws(() => head({ ...HEAD, resume: { cursor, stdin_offset: 0 } }), refused, String(cursor));
  }
  for (const offset of [1.5, -1, "0", null, 2 ** 60]) {
    assert.throws(() => head({ ...HEAD, resume: { cursor: "0", stdin_offset: offset } }), refused, String(offset));
  }
  assert.throws(() => head({ ...HEAD, terminal: { columns: 80 } }), /head\.terminal\.rows/);
});

test("a control is one of those there are; one that is not known yet is passed over", () => {
  for (const known of [{ type: "cancel" }, { type: "signal", signal: 15 }, { type: "resize", columns: 100, rows: 0 }]) {
    assert.deepEqual(control(known), known);
  }
  assert.equal(control({ type: "pause", seconds: 3 }), undefined);
});

test("a control that is none is refused", () => {
  const bad = ["", "{", "null", "7", "[]", "{}", { type: 1 }, { type: "signal" }, { type: "signal", signal: 1.5 }];
  for (const value of [...bad, { type: "signal", signal: 65 }, { type: "resize", columns: -1, rows: 1 }]) {
    assert.throws(() => control(value), refused, JSON.stringify(value));
  }
});
