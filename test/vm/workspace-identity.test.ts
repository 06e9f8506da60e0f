// Workspaces of one template are machines of their own: ids, names, random numbers and the keys that programs make of
// them differ, and all know the time. One that is started again is the same machine in another boot.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { test } from "node:test";
import { findProgram } from "../../src/host/resources.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

const all = new Workspaces();
/** How far a guest's clock may be from the host's, seconds. */
const CLOCK_S = 1;

/** One line each: what is a machine's own, then what is random, first of all from the kernel. */
const FACTS = [
  "python3 -c 'import os, random; print(os.getrandom(16).hex()); print(random.random()); print(os.urandom(8).hex())'",
  "head -c 32 /dev/urandom | sha256sum",
  "cat /proc/sys/kernel/random/uuid",
  "cat /proc/sys/kernel/random/boot_id",
  "cat /etc/machine-id",
  "hostname",
].join("; ");
/** Lines of those that stay what they are when a workspace is started again. */
const LASTING = 2;

async function facts(workspace: Workspace): Promise<string[]> {
  const lines = (await workspace.sh(FACTS)).trimEnd().split("\n");
  assert.equal(lines.length, 8);
  assert.match(lines.at(-2) ?? "", /^[0-9a-f]{32}$/);
  return lines;
}

async function clockIsRight(workspace: Workspace): Promise<void> {
  const before = Date.now() / 1000;
  const clock = Number(await workspace.ok(["date", "+%s.%N"]));
  const after = Date.now() / 1000;
  assert.ok(clock > before - CLOCK_S && clock < after + CLOCK_S, `clock ${clock}, host ${before} to ${after}`);
}

test("two workspaces are two machines, and one that is started again is itself", { timeout: 240_000 }, async () => {
  await using one = await all.create();
  await using two = await all.create();
  // The very first thing that runs in either.
  const [first, second] = [await facts(one), await facts(two)];
  assert.equal(new Set([...first, ...second]).size, first.length + second.length, [...first, ...second].join("\n"));
  for (const workspace of [one, two]) await clockIsRight(workspace);
  await all.ask(["update", one.id, "--ttl-seconds", "1"]);
  await one.untilState("stopped");
  const again = await facts(one);
  assert.deepEqual(again.slice(-LASTING), first.slice(-LASTING), "its name and id are others");
  const fresh = again.slice(0, -LASTING);
  for (const line of fresh) assert.ok(![...first, ...second].includes(line), `${line} again`);
  await clockIsRight(one);
});

test("SSH host keys that are made in them differ", { timeout: 240_000 }, async (context) => {
  const program = await findProgram("ssh-keygen");
  if (program === undefined) return context.skip("this host has no ssh-keygen to bring along");
  await using tools = await scratch();
  const loader = await withLibraries(program, tools.path);
  const make = [`/keys/${loader}`, "--library-path", "/keys", "/keys/ssh-keygen", "-q", "-N", "", "-f", "/keys/key"];
  const prints = [`/keys/${loader}`, "--library-path", "/keys", "/keys/ssh-keygen", "-l", "-f", "/keys/key.pub"];
  const seen: string[] = [];
  for (const type of ["ed25519", "ecdsa"]) {
    for (let round = 0; round < 2; round++) {
      await using workspace = await all.create(["--seed-path", tools.path]);
      await workspace.sh("ln -s /workspace /keys");
      await workspace.ok([...make, "-t", type]);
      const [, fingerprint = ""] = (await workspace.ok(prints)).split(" ");
      assert.match(fingerprint, /^SHA256:/);
      seen.push(fingerprint);
    }
  }
  assert.equal(new Set(seen).size, seen.length, seen.join("\n"));
});

/** Copies a program of the host and all it loads into a directory; gives the name of the loader there. */
async function withLibraries(program: string, directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  await copyFile(await realpath(program), join(directory, basename(program)));
  let loader: string | undefined;
  for (const line of execFileSync("ldd", [program]).toString().split("\n")) {
    const [, name, path] = /^\s*(?:(\S+) => )?(\/\S+) \(/.exec(line) ?? [];
    if (path === undefined) continue;
    const short = basename(name ?? path);
    await copyFile(await realpath(path), join(directory, short));
    if (short.startsWith("ld-linux")) loader = short;
  }
  if (loader === undefined) throw new Error(`${program} is not linked against libraries`);
  return loader;
}
