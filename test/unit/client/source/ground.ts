// What the tests of sources share: a directory to work in, a source's bytes, and what is in them as GNU tar unpacks it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSource, type Source, type SourceOptions } from "../../../../src/client/source/source.ts";
import type { ErrorCode } from "../../../../src/errors/codes.ts";
import { PyroError } from "../../../../src/errors/error.ts";

export interface Ground extends Disposable {
  readonly at: string;
  path(...parts: string[]): string;
}

export function ground(): Ground {
  const at = realpathSync(mkdtempSync(join(tmpdir(), "pyro-source-")));
  return {
    at,
    path: (...parts) => join(at, ...parts),
    [Symbol.dispose]: () => rmSync(at, { recursive: true, force: true }),
  };
}

export function open(path: string, options: Partial<SourceOptions> = {}): Promise<Source> {
  return openSource(path, { exclude: [], gitignore: false, maxBytes: 2 ** 34, maxEntries: 1_000_000, ...options });
}

export async function bytesOf(source: Source): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source.bytes(AbortSignal.timeout(60_000))) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Unpacks an archive into a new directory, as root with all modes. */
export function unpack(archive: Buffer, directory: string): string {
  mkdirSync(directory);
  writeFileSync(`${directory}.tar`, archive);
  const how = ["--extract", "--preserve-permissions", "--warning=no-timestamp"];
  execFileSync("tar", [...how, "--file", `${directory}.tar`, "-C", directory]);
  return directory;
}

/** Names in an archive, in its order, as they are in it. */
export function namesIn(archive: Buffer): string[] {
  const directory = mkdtempSync(join(tmpdir(), "pyro-names-"));
  const file = join(directory, "archive");
  writeFileSync(file, archive);
  const env = { ...process.env, LC_ALL: "C" };
  const listed = execFileSync("tar", ["--list", "--quoting-style=escape", "--file", file], { env });
  rmSync(directory, { recursive: true });
  return listed
    .toString()
    .split("\n")
    .filter((name) => name !== "");
}

export function sorted(names: readonly string[]): string[] {
  return [...names].sort();
}

/** Rejects with this code, and says what is asked for in its message. */
export async function fails(promise: Promise<unknown>, code: ErrorCode, message: RegExp = /./): Promise<PyroError> {
  const thrown = await promise.then(
    () => assert.fail(`did not fail with ${code}`),
    (reason: unknown) => reason,
  );
  assert.ok(thrown instanceof PyroError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  assert.match(thrown.message, message);
  return thrown;
}

/** Command lines of this process's children that still run. */
export function children(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        if (Number(parent) !== process.pid || state === "Z") return [];
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")];
      } catch {
        return [];
      }
    });
}
