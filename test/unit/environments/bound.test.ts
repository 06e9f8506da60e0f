// A daemon that is killed takes the programs of its builds with it, and what one left that cannot be removed yet keeps no
// later daemon from starting.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { countSources } from "../../../src/environments/apt.ts";

async function temporary(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "bound-"));
  t.after(async () => {
    await chmod(join(directory, ".staging-a"), 0o700).catch(() => {});
    await rm(directory, { recursive: true });
  });
  return directory;
}

function lives(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** A process of its own that does something with a module of pyro's. */
function builder(module: string, body: string, path = process.env.PATH) {
  const address = new URL(`../../../src/environments/${module}.ts`, import.meta.url).href;
  const log = new URL("../../../src/log/log.ts", import.meta.url).href;
  const script = `
    const it = await import(${JSON.stringify(address)});
    (await import(${JSON.stringify(log)})).logFrom("info");
    ${body}`;
  return spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, PATH: path },
  });
}

// What each runs, and what stands in for the programs before it, so that it is reached at once and goes on for ever.
const PROGRAMS = {
  cpio: [
    "initramfs",
    (at: string) => `await it.packInitramfs({ guestd: "/bin/true", modules: "${at}/in" }, "${at}/tree", "${at}/out")`,
  ],
  "apt-get": ["kernel", (at: string) => `await it.fetchKernel("${at}", () => {})`],
  "dpkg-deb": ["kernel", (at: string) => `await it.fetchKernel("${at}", () => {})`],
} as const;

for (const [program, [module, body]] of Object.entries(PROGRAMS)) {
  test(`${program} ends with a daemon that is killed`, { timeout: 60_000 }, async (t) => {
    if (module === "kernel" && (await countSources("bookworm")).fetched === 0)
      return t.skip("this host's apt has fetched no sources of Debian bookworm");
    const directory = await temporary(t);
    const bin = join(directory, "bin");
    await mkdir(bin);
    await mkdir(join(directory, "in"));
    const endless = `echo $$ >${directory}/pid.new; mv ${directory}/pid.new ${directory}/pid; exec sleep 60`;
    const stands: Record<string, string> = {
      "apt-cache": "echo 'Depends: linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1)'",
      ...(program === "dpkg-deb" ? { "apt-get": ": > kernel.deb" } : {}),
      [program]: endless,
    };
    for (const [name, line] of Object.entries(stands)) {
      await writeFile(join(bin, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
    }
    const daemon = builder(module, body(directory), `${bin}:${process.env.PATH}`);
    let said = "";
    daemon.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    let pid = 0;
    for (let tries = 0; pid === 0; tries++) {
      assert.ok(tries < 400 && daemon.exitCode === null, `${program} was not started: ${said}`);
      await sleep(50);
      pid = Number(await readFile(join(directory, "pid"), "utf8").catch(() => "0"));
    }
    t.after(() => {
      if (lives(pid)) process.kill(pid, "SIGKILL");
    });
    assert.equal(lives(pid), true);
    daemon.kill("SIGKILL");
    await once(daemon, "exit");
    for (let tries = 0; lives(pid) && tries < 40; tries++) await sleep(25);
    assert.equal(lives(pid), false, `${program} goes on`);
  });
}

test("what cannot be removed yet is told of and left, and the rest goes", async (t) => {
  const directory = await temporary(t);
  await chmod(directory, 0o777);
  for (const name of ["a", "b"]) await mkdir(join(directory, `.staging-${name}`));
  await writeFile(join(directory, ".staging-a", "file"), "");
  await chmod(join(directory, ".staging-a"), 0o555);
  // Root may remove anything; another user may not.
  const become = "process.getuid() === 0 && process.seteuid(65534);";
  const daemon = builder("staging", `${become} await it.removeStale(${JSON.stringify(directory)});`);
  let said = "";
  daemon.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [status] = await once(daemon, "close");
  assert.equal(status, 0, said);
  assert.match(said, /cannot be removed yet: EACCES.*\.staging-a/);
  assert.deepEqual(await readdir(directory), [".staging-a"]);
});
