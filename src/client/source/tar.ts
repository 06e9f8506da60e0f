// GNU tar as the maker of what is sent of a directory: it is given each name, and asked for nothing else. It alone keeps
// sparse files, hard links, names of any bytes and times in nanoseconds, and reads each file only as it is sent.
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../../errors/error.ts";
import { findProgram } from "../../host/resources.ts";
import { runProgram } from "../../host/spawn.ts";
import { type ByteName, bytesOf, type Skipped, shown } from "./names.ts";

/** Longest time without a byte while one is awaited, ms: a large file without data may take a while to be looked through. */
const SILENCE_MS = 300_000;
const VERSION_MS = 10_000;
const GONE_MS = 1000;
const MAX_SAID_BYTES = 4 << 20;
const NAMES_AT_ONCE = 1000;

const ARGUMENTS = [
  "--create",
  "--file=-",
  "--format=posix",
  "--sparse",
  // Times that a guest does not take over, and that change by being read.
  "--pax-option=delete=atime,delete=ctime",
  "--owner=root:0",
  "--group=root:0",
  "--no-recursion",
  "--null",
  "--verbatim-files-from",
  "--no-unquote",
  "--quoting-style=escape",
  // 64 KiB at once, as much as a pipe holds.
  "--blocking-factor=128",
];

type Tar = ChildProcessByStdio<Writable, Readable, Readable>;

let checked: Promise<string> | undefined;

/** Where GNU tar is. Errors: HOST_TOOL_MISSING when there is no tar, or another's. Asks once per process. */
export function findTar(): Promise<string> {
  checked ??= check().catch((thrown: unknown) => {
    checked = undefined;
    throw thrown;
  });
  return checked;
}

async function check(): Promise<string> {
  const { stdout, tail } = await runProgram("tar", ["--version"], { deadlineMs: VERSION_MS, aptPackage: "tar" });
  // What ran is what PATH names first.
  const path = await findProgram("tar");
  if (path !== undefined && stdout.startsWith("tar (GNU tar)")) return path;
  const first = tail.split("\n")[0]?.trim() || "nothing";
  throw new PyroError("HOST_TOOL_MISSING", `The program tar is not GNU tar; it says of itself: ${first}.`, {
    hint: "Install GNU tar (the package tar) so that it comes first on PATH.",
    details: { program: "tar", apt_package: "tar" },
  });
}

export interface TarOptions {
  /** Where names are relative to. */
  readonly directory: string;
  /** The one name that is sent, where it is to be called otherwise. */
  readonly calledAs?: string | undefined;
  /** True: a name that vanished fails the whole. */
  readonly complete?: boolean;
  /** Takes what vanished or changed while it was sent. */
  readonly skipped: Skipped;
  readonly signal: AbortSignal;
}

/**
 * The names' files as an archive, made while it is read. Leaving early ends the program.
 * Errors: SOURCE_UNREADABLE; an abort rejects with its reason.
 */
export async function* tarOf(names: Iterable<ByteName>, options: TarOptions): AsyncGenerator<Uint8Array> {
  const program = await findTar();
  options.signal.throwIfAborted();
  const child = start(program, options);
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(null));
    child.once("close", resolve);
  });
  const said = new Said(child.stderr);
  const kill = () => child.kill("SIGKILL");
  options.signal.addEventListener("abort", kill, { once: true });
  child.stdin.on("error", () => {});
  void feed(child.stdin, names);
  try {
    yield* chunks(child.stdout, options.directory);
    const status = await ended;
    options.signal.throwIfAborted();
    conclude(status, said.messages, options);
  } catch (thrown) {
    options.signal.throwIfAborted();
    throw thrown;
  } finally {
    options.signal.removeEventListener("abort", kill);
    // What was not read keeps its end from being told.
    child.stdout.destroy();
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      kill();
      // Not for ever: what waits for a dead file server does not even die.
      await Promise.race([gone, sleep(GONE_MS, undefined, { ref: false })]);
    }
  }
}

function start(program: string, { directory, calledAs }: TarOptions): Tar {
  // What is replaced by what: both are taken as they are but for these characters.
  const rename = calledAs === undefined ? [] : [`--transform=s/.*/${calledAs.replace(/[\\/&]/g, "\\$&")}/`];
  return spawn(program, [...ARGUMENTS, ...rename, "-C", directory, "--files-from=-"], {
    // The name that its messages begin with.
    argv0: "tar",
    env: { ...process.env, LC_ALL: "C", TZ: "UTC", TAR_OPTIONS: undefined },
    stdio: ["pipe", "pipe", "pipe"],
    // A Ctrl-C at the terminal is for whoever runs this, who ends the program or does not.
    detached: true,
  });
}

async function feed(stdin: Writable, names: Iterable<ByteName>): Promise<void> {
  let some: ByteName[] = [];
  const flush = async () => {
    const list = bytesOf(`${some.join("\0")}\0`);
    some = [];
    if (stdin.write(list) || stdin.destroyed) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        stdin.off("drain", done);
        stdin.off("close", done);
        resolve();
      };
      stdin.once("drain", done);
      stdin.once("close", done);
    });
  };
  for (const name of names) {
    some.push(name);
    if (some.length >= NAMES_AT_ONCE) await flush();
    if (stdin.destroyed) return;
  }
  if (some.length > 0) await flush();
  stdin.end();
}

async function* chunks(stdout: Readable, directory: string): AsyncGenerator<Uint8Array> {
  const reading = stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(
          new PyroError("SOURCE_UNREADABLE", `Nothing could be read below ${directory} for ${SILENCE_MS / 1000} s.`),
        );
      }, SILENCE_MS);
    });
    // Only this wait counts, not how long the reader takes.
    const next = await Promise.race([reading.next(), silent]).finally(() => clearTimeout(timer));
    if (next.done) return;
    yield next.value;
  }
}

/** What the program complains about, line by line; names in it are escaped, so a line is a message. */
class Said {
  #text = "";

  constructor(stderr: Readable) {
    stderr.on("data", (chunk: Buffer) => {
      if (this.#text.length < MAX_SAID_BYTES) this.#text += chunk.toString("latin1");
    });
  }

  get messages(): string[] {
    return this.#text.split("\n").filter((line) => line !== "");
  }
}

const VANISHED =
  /^tar: (.*): (?:Cannot (?:stat|open|readlink): (?:No such file or directory|Not a directory)|File removed before we read it)$/s;
const CHANGED = /^tar: (.*): (file changed as we read it|File shrank by \d+ bytes; padding with zeros)$/s;
const MIXED = "changed while it was read: what was sent may mix old and new";
const SHRANK = "became shorter while it was read: zeros were sent for its end";
const SUMMARY = /^tar: (Exiting with failure status due to previous errors|Error is not recoverable: exiting now)$/;

/**
 * A file that changes while it is sent is told of and fails nothing: there is always a log being written, and a tree that
 * is worked on must be good enough to work with. What is in the archive then is as long as the file was at first: a mix
 * of old and new, or filled up with zeros. Who needs all files of one moment stops what writes them, as with any copy.
 */
function conclude(
  status: number | null,
  messages: readonly string[],
  { directory, skipped, complete }: TarOptions,
): void {
  if (status === 0) return;
  const reasons = new Map<string, string>();
  for (const message of messages) {
    const [, vanished] = VANISHED.exec(message) ?? [];
    const [, changed, how] = CHANGED.exec(message) ?? [];
    if (vanished !== undefined && !complete) reasons.set(vanished, "vanished while it was sent");
    else if (changed !== undefined && how?.startsWith("File shrank")) reasons.set(changed, SHRANK);
    else if (changed !== undefined) reasons.set(changed, reasons.get(changed) ?? MIXED);
    else if (!SUMMARY.test(message)) throw failed(directory, message);
  }
  for (const [name, reason] of reasons) skipped.add(unescaped(name), reason);
  // Status 1: files differed; 2: some could not be had, each of which was told above.
  if (status === 1 || (status === 2 && messages.some((message) => VANISHED.test(message)))) return;
  throw failed(directory, messages[0] ?? `it ended with ${status === null ? "a signal" : `status ${status}`}`);
}

function failed(directory: string, message: string): PyroError {
  const said = shown(message).replace(/^tar: /, "");
  return new PyroError("SOURCE_UNREADABLE", `What is below ${directory} could not be sent whole: ${said}.`);
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", a: "\x07", b: "\b", f: "\f", v: "\v" };

/** Takes back --quoting-style=escape. */
function unescaped(text: string): ByteName {
  return text.replace(/\\([0-7]{3}|.)/gs, (_, code: string) =>
    code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (ESCAPES[code] ?? code),
  );
}
