// What else comes from outside: a VMM's monitor, frames and cursors of clients, the host's package sources, and files
// that a crash cut short.
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Qmp, QmpError } from "../../../src/drivers/qemu/qmp.ts";
import { parseCursor } from "../../../src/engine/result.ts";
import { Spool } from "../../../src/engine/spool.ts";
import { parseDeb822, parseOneLine, parseRelease, renderSources } from "../../../src/environments/sources.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { encodeFrame, encodeJsonFrame, type Frame, MAX_FRAME_BYTES, readFrames } from "../../../src/wire/protocol.ts";
import type { Seeded } from "../../seed.ts";
import { fuzz, mutated, pieces } from "./fuzz.ts";

const SAID_BY_MONITORS = [
  '{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}',
  '{"return": {}}',
  '{"return": {"status": "running"}, "id": "x"}',
  '{"return": null}',
  '{"error": {"class": "GenericError", "desc": "no"}}',
  '{"error": null}',
  '{"error": "text"}',
  '{"error": {"desc": 7}}',
  '{"event": "STOP", "timestamp": {"seconds": 1}}',
  "null",
  "[]",
  "7",
  "",
];

fuzz("a monitor that says anything gives an answer or a QmpError", async (random) => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-fuzz-"));
  const path = join(directory, "qmp.sock");
  const server = createServer((socket) => {
    socket.on("error", () => {});
    const lines = Array.from({ length: 1 + random.below(6) }, () => random.pick(SAID_BY_MONITORS));
    // Mostly as it should begin, or nothing behind the greeting would ever be reached.
    if (random.chance(0.8)) lines.unshift(SAID_BY_MONITORS[0] ?? "", '{"return": {}}');
    const say = () => {
      const line = Buffer.from(`${lines.shift() ?? ""}\n`);
      for (const piece of pieces(random, random.chance(0.8) ? line : mutated(random, line))) socket.write(piece);
      if (lines.length === 0) socket.end();
    };
    // One line at the start and one for each command; then it closes, and nobody waits.
    socket.on("data", say);
    say();
    setTimeout(() => socket.end(), 20);
  });
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  let qmp: Qmp | undefined;
  try {
    qmp = await Qmp.open(path);
    await qmp.execute("query-status");
  } catch (error) {
    if (!(error instanceof QmpError)) throw error;
  } finally {
    qmp?.close();
    await new Promise<void>((resolve) => void server.close(() => resolve()));
    await rm(directory, { recursive: true });
  }
});

async function* cut(random: Seeded, bytes: Buffer): AsyncGenerator<Buffer> {
  for (const piece of pieces(random, bytes)) yield piece;
}

async function framesOf(source: AsyncIterable<Uint8Array>): Promise<Frame[]> {
  const frames: Frame[] = [];
  try {
    for await (const { type, payload } of readFrames(source)) frames.push({ type, payload: Buffer.from(payload) });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return frames;
}

fuzz("frames between client and daemon are the same however they are cut, and none is too long", async (random) => {
  const parts = Array.from({ length: random.below(6) }, () =>
    random.chance(0.5)
      ? encodeJsonFrame(random.below(8), { type: "signal", signal: random.below(100) })
      : encodeFrame(random.below(256), random.bytes(random.below(600))),
  );
  const stream = random.chance(0.3) ? Buffer.concat(parts) : mutated(random, Buffer.concat(parts));
  const frames = await framesOf(cut(random, stream));
  assert.deepEqual(frames, await framesOf(cut(random, stream)));
  for (const { payload } of frames) assert.ok(payload.length <= MAX_FRAME_BYTES);
});

fuzz("a cursor is understood or refused with its code", (random) => {
  const text = random.chance(0.5)
    ? mutated(random, Buffer.from(String(random.below(2 ** 31)))).toString("latin1")
    : random.pick([
        "",
        "0",
        "-1",
        "0x10",
        "1e3",
        " 7",
        "18446744073709551616",
        "9".repeat(400),
        "NaN",
        "Infinity",
        "٣",
      ]);
  try {
    const cursor = parseCursor(text);
    assert.ok(cursor >= 0n, text);
  } catch (error) {
    assert.ok(error instanceof PyroError && error.code === "CURSOR_INVALID", `${JSON.stringify(text)}: ${error}`);
  }
});

const SOURCE_TEXTS = [
  "deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] https://example.org/debian bookworm main contrib\n",
  "deb-src https://example.org/debian bookworm main\n# a comment\ndeb [trusted=yes] https://example.org x y\n",
  "Types: deb\nURIs: https://example.org/debian https://example.net/debian/\nSuites: bookworm bookworm-updates\n" +
    "Components: main\nSigned-By: /usr/share/keyrings/a.gpg\n\nTypes: deb\nEnabled: no\nURIs: x\nSuites: y\n",
  "Types: deb\nURIs: https://example.org\nSuites: bookworm\nComponents: main\nTrusted: yes\n",
  "Origin: Debian\nSuite: stable\nCodename: bookworm\nDate: Sat, 10 Feb 2024 11:07:25 UTC\n",
];

fuzz("package sources: what is written of them is read again as the same, and nothing else", (random) => {
  const text = mutated(random, Buffer.from(random.pick(SOURCE_TEXTS))).toString("utf8");
  parseRelease(text);
  for (const source of [...parseOneLine(text), ...parseDeb822(text)]) {
    for (const word of [source.uri, source.suite, ...source.components]) assert.match(word, /^\S+$/);
    assert.deepEqual(parseDeb822(renderSources([source])), [source], JSON.stringify(text));
  }
});

fuzz("output that a crash cut short is a beginning of what was written", async (random) => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-fuzz-"));
  try {
    const written = { stdout: "", stderr: "" };
    const spool = await Spool.open(directory);
    for (let times = random.below(12); times > 0; times--) {
      const stream = random.pick(["stdout", "stderr"] as const);
      const data = random.bytes(random.below(300));
      await spool.append(stream, spool.end, data);
      written[stream] += data.toString("latin1");
    }
    const { end } = spool;
    await spool.close();
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      await truncate(path, random.below((await stat(path)).size + 1));
    }
    const again = await Spool.open(directory);
    assert.ok(again.end <= end);
    await again.append("stdout", again.end, Buffer.from("after"));
    const read = { stdout: "", stderr: "", gap: "" };
    for await (const chunk of again.read(0n, false)) read[chunk.stream] += chunk.data.toString("latin1");
    await again.close();
    assert.ok(read.stdout.endsWith("after"));
    assert.ok(written.stdout.startsWith(read.stdout.slice(0, -5)) && written.stderr.startsWith(read.stderr));
  } finally {
    await rm(directory, { recursive: true });
  }
});
