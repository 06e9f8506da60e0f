// The screen of a shell, made of its output: the same however it was looked at, and made again when its thread is gone.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Spool } from "../../../../src/engine/spool.ts";
import { Emulator } from "../../../../src/engine/terminal/emulator.ts";
import { Terminals } from "../../../../src/engine/terminal/terminals.ts";
import { type Sized, View } from "../../../../src/engine/terminal/view.ts";

const never = new AbortController().signal;
const SIZE: Sized = { at: 0n, cols: 40, rows: 8 };

let directory: string;
let made = 0;
const spools: Spool[] = [];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-view-"));
});

after(async () => {
  await Promise.all(spools.map((spool) => spool.finish()));
  await rm(directory, { recursive: true });
});

async function spoolOf(...parts: string[]): Promise<Spool> {
  const spool = await Spool.open(join(directory, String(++made)));
  spools.push(spool);
  for (const part of parts) await spool.append("stdout", spool.end, Buffer.from(part));
  return spool;
}

test("a look, more output, another look: each shows what the output made by then", async () => {
  const view = new View(new Terminals());
  const spool = await spoolOf("hello\r\n", "$ ");
  const sizes: [Sized] = [SIZE];
  const first = await view.screen({ spool, sizes }, never);
  assert.deepEqual(first.screen.lines, ["hello", "$ "]);
  assert.deepEqual([first.screen.row, first.screen.column, first.cursor], [2, 3, spool.end]);
  await spool.append("stdout", spool.end, Buffer.from("\x1b[?1049h\x1b[?1h\x1b[H\x1b[2Jfull"));
  const { screen } = await view.screen({ spool, sizes }, never);
  assert.deepEqual([screen.lines, screen.alternate, screen.applicationCursor], [["full"], true, true]);
});

test("a terminal that was forgotten is made again, with the sizes that it had", async () => {
  const terminals = new Terminals();
  const view = new View(terminals);
  const spool = await spoolOf("x".repeat(60));
  const sizes: [Sized, ...Sized[]] = [SIZE];
  assert.deepEqual((await view.screen({ spool, sizes }, never)).screen.lines, ["x".repeat(40), "x".repeat(20)]);
  sizes.push({ at: spool.end, cols: 80, rows: 8 });
  await spool.append("stdout", spool.end, Buffer.from(`\r\n${"y".repeat(60)}`));
  const before = await view.screen({ spool, sizes }, never);
  assert.equal(before.screen.lines.at(-1), "y".repeat(60));
  await view.drop();
  assert.deepEqual(await view.screen({ spool, sizes }, never), before);
  // Two sizes without output in between: the last one counts.
  sizes.push({ at: spool.end, cols: 10, rows: 8 });
  await view.screen({ spool, sizes }, never);
  sizes.splice(-1, 1, { at: spool.end, cols: 70, rows: 8 });
  await spool.append("stdout", spool.end, Buffer.from(`\r\n${"z".repeat(65)}`));
  assert.ok((await view.screen({ spool, sizes }, never)).screen.lines.includes("z".repeat(65)));
});

test("more shells than there are terminals", async () => {
  const terminals = new Terminals();
  const all = await Promise.all(
    Array.from({ length: 40 }, async (_, at) => ({ view: new View(terminals), spool: await spoolOf(`shell ${at}`) })),
  );
  for (let turn = 0; turn < 2; turn++) {
    const lines = await Promise.all(
      all.map(async ({ view, spool }) => (await view.screen({ spool, sizes: [SIZE] }, never)).screen.lines),
    );
    assert.deepEqual(
      lines,
      all.map((_, at) => [`shell ${at}`]),
    );
  }
});

test("what redraws shows the same on another terminal, its modes with it", async () => {
  const output = "\x1b[31mred\x1b[0m\r\n\x1b[?1049h\x1b[?1h\x1b[?25l\x1b[?1002h\x1b[?1006h\x1b[2;5Hat\x1b[7mrev";
  const view = new View(new Terminals());
  const shown = { spool: await spoolOf(output), sizes: [SIZE] as [Sized] };
  const { text } = await view.redraw(shown, never);
  const other = new Emulator(SIZE, 0);
  await other.feed(text);
  assert.deepEqual(other.screen, (await view.screen(shown, never)).screen);
  assert.equal(other.redraw, text);
  for (const mode of ["?25l", "?1002h", "?1006h", "?1h", "?1049h"]) assert.ok(text.includes(`\x1b[${mode}`), mode);
});

test("megabytes are shown, and an abort in the middle is made good", { timeout: 60_000 }, async () => {
  const view = new View(new Terminals());
  const spool = await spoolOf();
  for (let at = 0; at < 64; at++) {
    await spool.append("stdout", spool.end, Buffer.from(`${`${at} `.repeat(20_000)}\r\n`));
  }
  await spool.append("stdout", spool.end, Buffer.from("\x1b[H\x1b[2Jend"));
  const shown = { spool, sizes: [SIZE] as [Sized] };
  const ending = new AbortController();
  const cut = view.screen(shown, ending.signal);
  setTimeout(() => ending.abort(new Error("left")), 5);
  await cut.catch(() => {});
  const { screen, cursor } = await view.screen(shown, never);
  assert.deepEqual([screen.lines, cursor], [["end"], spool.end]);
});
