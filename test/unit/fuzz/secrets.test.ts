// Secrets in output that is cut anywhere: in no form, by no cut and from no cursor does a value come out, what is no value
// comes out as it was, and cursors count what was printed.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withOutput } from "../../../src/engine/result.ts";
import { RedactedOutput } from "../../../src/engine/secrets/output.ts";
import { Redactor } from "../../../src/engine/secrets/redactor.ts";
import { Spool } from "../../../src/engine/spool.ts";
import type { Seeded } from "../../seed.ts";
import { fuzz, pieces } from "./fuzz.ts";

/** Bytes that no value has, so that what is expected is known. */
const BETWEEN = ["#", "#\n", "#é##\r\n", "##%#", "#%4#", "#\\#", "# #"];

interface Segment {
  readonly raw: string;
  readonly shown: string;
}

interface Known {
  readonly name: string;
  readonly value: string;
}

fuzz("output with secrets, cut anywhere", async (random) => {
  const secrets = somewhat(random);
  const redactor = new Redactor(secrets.map(({ name, value }) => ({ name, value: Buffer.from(value) })));
  const directory = await mkdtemp(join(tmpdir(), "pyro-secrets-"));
  const spool = await Spool.open(directory);
  try {
    const said = { stdout: text(random, secrets), stderr: text(random, secrets) };
    await print(random, new RedactedOutput(spool, redactor), said);
    await spool.finish();
    assert.equal(spool.end, BigInt(raw(said.stdout).length + raw(said.stderr).length), "cursors count what came");
    for (const stream of ["stdout", "stderr"] as const) {
      assert.equal((await readBack(spool, stream, 0n)).toString(), shown(said[stream]));
    }
    for (let round = 0; round < 20; round++) {
      const cursor = BigInt(random.below(Number(spool.end) + 1));
      for (const stream of ["stdout", "stderr"] as const) {
        const part = await readBack(spool, stream, cursor);
        const whole = Buffer.from(shown(said[stream]));
        assert.ok(whole.subarray(whole.length - part.length).equals(part), "a part is the end of what is shown");
      }
    }
    await paged(random, spool, said, secrets);
  } finally {
    await rm(directory, { recursive: true });
  }
});

fuzz("a part of what holds secrets", (random) => {
  const secrets = somewhat(random);
  const redactor = new Redactor(secrets.map(({ name, value }) => ({ name, value: Buffer.from(value) })));
  const segments = text(random, secrets);
  const whole = raw(segments);
  for (let round = 0; round < 20; round++) {
    const from = random.below(whole.length);
    const to = from + random.below(whole.length - from + 1);
    const least = Math.max(0, from - redactor.margin);
    const part = redactor.window(whole.subarray(least, to + redactor.margin), from - least, to - least);
    clean(part.data.toString(), secrets);
    // A piece of a value, however small, is not shown either.
    assert.ok(Buffer.from(shown(segments)).includes(part.data), "a part is one of what is shown");
  }
});

/** Some values: short and long, with bytes that other forms write in another way, one beginning as another does. */
function somewhat(random: Seeded): Known[] {
  const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const special = `${letters}+/ "'\\&<>=?:-_.~\n`;
  const value = (alphabet: string, length: number) =>
    `X${Array.from({ length: length - 2 }, () => alphabet[random.below(alphabet.length)]).join("")}Y`;
  const first = value(letters, 6 + random.below(40));
  return [
    { name: "FIRST", value: first },
    { name: "SECOND", value: `Z${first.slice(1, 4)}${value(special, 8 + random.below(60))}` },
    { name: "LONG", value: value(random.chance(0.5) ? letters : special, 300 + random.below(3000)) },
  ];
}

function text(random: Seeded, secrets: readonly Known[]): Segment[] {
  const segments: Segment[] = [];
  for (let count = 5 + random.below(40); count > 0; count--) {
    const between = random.pick(BETWEEN);
    segments.push({ raw: between, shown: between });
    if (random.chance(0.2)) {
      // The beginning of a value, and then something else.
      const { value } = random.pick(secrets);
      const begun = value.slice(0, 1 + random.below(value.length - 1));
      segments.push({ raw: begun, shown: begun });
    } else if (random.chance(0.6)) segments.push(inSomeForm(random, random.pick(secrets)));
  }
  return [...segments, { raw: "#\n", shown: "#\n" }];
}

function inSomeForm(random: Seeded, { name, value }: Known): Segment {
  const mark = `[redacted:${name}]`;
  switch (random.below(6)) {
    case 0:
      return { raw: value.replaceAll("\n", random.pick(["\n", "\r\n"])), shown: mark };
    case 1:
      return { raw: [...Buffer.from(value)].map((byte) => percent(random, byte)).join(""), shown: mark };
    case 2:
      return { raw: new URLSearchParams([["", value]]).toString().slice(1), shown: mark };
    case 3:
      return { raw: drawn(random, value), shown: mark };
    case 4:
      return { raw: JSON.stringify(value).slice(1, -1), shown: mark };
    default:
      return inBase64(random, value, mark);
  }
}

/** On the rows of a terminal, or in colours. */
function drawn(random: Seeded, value: string): string {
  // What ends a row with a space of its own looks like one that a shell cut.
  if (value.includes(" \n")) return value;
  const between = random.pick([" \r", "again", "\x1b[0m", "\x1b[12;1H", "\x1b[38;5;120m\x1b[K"]);
  const but = value.slice(0, -1);
  const rows = but.replace(/\n/g, "\r\n").replace(/([^ \r\n])([^ \r\n])/g, (_, a: string, b: string) => {
    if (random.chance(0.9)) return a + b;
    return between === "again" ? `${a}${b}\r${b}` : a + between + b;
  });
  return rows + value.slice(-1);
}

function percent(random: Seeded, byte: number): string {
  const character = String.fromCharCode(byte);
  if (/[A-Za-z0-9]/.test(character) && random.chance(0.7)) return character;
  const digits = byte.toString(16).padStart(2, "0");
  return `%${random.chance(0.5) ? digits : digits.toUpperCase()}`;
}

/** Somewhere inside of more bytes, of which the digits that they share with the value are shown. */
function inBase64(random: Seeded, value: string, mark: string): Segment {
  const before = random.bytes(random.below(100));
  const whole = Buffer.concat([before, Buffer.from(value), random.bytes(random.below(100))]);
  let digits = whole.toString(random.chance(0.5) ? "base64" : "base64url");
  let from = Math.ceil((before.length * 8) / 6);
  let to = Math.floor(((before.length + Buffer.from(value).length) * 8) / 6);
  if (random.chance(0.5)) {
    const broken = (place: number) => place + Math.floor(place / 76);
    digits = digits.replace(/.{76}/g, "$&\n");
    to = broken(to - 1) + 1;
    from = broken(from);
  }
  return { raw: digits, shown: digits.slice(0, from) + mark + digits.slice(to) };
}

async function print(
  random: Seeded,
  output: RedactedOutput,
  said: Readonly<Record<"stdout" | "stderr", readonly Segment[]>>,
): Promise<void> {
  const waiting = {
    stdout: [...pieces(random, raw(said.stdout))],
    stderr: [...pieces(random, raw(said.stderr))],
  };
  for (let cursor = 0n; waiting.stdout.length + waiting.stderr.length > 0; ) {
    const stream =
      waiting.stderr.length === 0 || (waiting.stdout.length > 0 && random.chance(0.5)) ? "stdout" : "stderr";
    const piece = waiting[stream].shift() ?? Buffer.alloc(0);
    await output.append(stream, cursor, piece);
    cursor += BigInt(piece.length);
  }
  await output.end();
}

/** What the spool gives, in an answer after the other, each no longer than some bytes. */
async function paged(
  random: Seeded,
  spool: Spool,
  said: Readonly<Record<"stdout" | "stderr", readonly Segment[]>>,
  secrets: readonly Known[],
): Promise<void> {
  const facts = { processId: "p", sequence: 1, command: [], cwd: "/", startedAt: "", end: undefined, lost: undefined };
  const over = { ...facts, lost: { message: "", at: "" } };
  const all = { stdout: "", stderr: "" };
  const most = 30 + random.below(500);
  for (let cursor = 0n; cursor < spool.end; ) {
    const page = await withOutput(over, spool, cursor, most);
    for (const stream of ["stdout", "stderr"] as const) {
      const part = page[stream];
      all[stream] += page[`${stream}_encoding`] === "utf-8" ? part : Buffer.from(part, "base64").toString("latin1");
      clean(all[stream], secrets);
    }
    const next = BigInt(page.next_cursor.slice(1));
    assert.ok(next > cursor, "every answer goes on");
    cursor = next;
  }
  for (const stream of ["stdout", "stderr"] as const) {
    assert.equal(all[stream].replaceAll("Ã©", "é"), shown(said[stream]));
  }
}

async function readBack(spool: Spool, stream: "stdout" | "stderr", from: bigint): Promise<Buffer> {
  const parts: Buffer[] = [];
  let cursor = from;
  for await (const chunk of spool.read(from, false)) {
    assert.equal(chunk.cursor, cursor);
    cursor = chunk.next;
    if (chunk.stream === stream) parts.push(chunk.data);
  }
  assert.equal(cursor, spool.end);
  return Buffer.concat(parts);
}

/** No value is in it. */
function clean(output: string, secrets: readonly Known[]): void {
  for (const { name, value } of secrets) {
    assert.ok(!output.includes(value), `${name} came out`);
    assert.ok(!decodeURIComponentOrNot(output).includes(value), `${name} came out, percent-encoded`);
    const bare = output.replace(/\n/g, "");
    for (const before of [0, 1, 2]) {
      const digits = Buffer.from("x".repeat(before) + value).toString("base64");
      const core = digits.slice(before === 0 ? 0 : before + 1, Math.floor(((before + value.length) * 8) / 6));
      assert.ok(!bare.replaceAll("-", "+").replaceAll("_", "/").includes(core), `${name} came out in base64`);
    }
  }
}

function decodeURIComponentOrNot(output: string): string {
  return output
    .replaceAll("+", " ")
    .replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

function raw(segments: readonly Segment[]): Buffer {
  return Buffer.from(segments.map((segment) => segment.raw).join(""));
}

function shown(segments: readonly Segment[]): string {
  return segments.map((segment) => segment.shown).join("");
}
