// Transfers into a real guest: what arrives, what is refused, a disk that is held still, and a microVM that ends half way.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "../../src/drivers/driver.ts";
import { sendTransfer, type TransferResult } from "../../src/engine/workspace/transfer.ts";
import { formatDisk } from "../../src/environments/disk.ts";
import { PyroError } from "../../src/errors/error.ts";
import { GuestClient } from "../../src/guest/client.ts";
import { copySparse } from "../../src/host/sparse-copy.ts";
import { Seeded } from "../seed.ts";
import { sha256 } from "./harness.ts";
import { exec, MachineRoom } from "./machines.ts";

const DISK_MIB = 1024;
const SBIN = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }, encoding: "utf8" } as const;

/** A restored microVM on a disk, and the files to be sent. */
class Guest {
  readonly room: MachineRoom;
  readonly machine: Machine;
  readonly client: GuestClient;
  #commands = 0;

  private constructor(room: MachineRoom, machine: Machine) {
    this.room = room;
    this.machine = machine;
    this.client = new GuestClient((signal) => machine.openPort("control", signal));
  }

  static async start(room: MachineRoom, vmId: string, disk: string): Promise<Guest> {
    const guest = new Guest(room, await room.restore(vmId, { path: disk, mib: DISK_MIB }));
    await room.ready(guest.client);
    return guest;
  }

  async send(archive: Buffer, destination = "/workspace", onBytes?: (total: number) => void): Promise<TransferResult> {
    const signal = AbortSignal.timeout(240_000);
    const options = { destination, maxBytes: 2 ** 33, maxEntries: 100_000, signal, ...(onBytes ? { onBytes } : {}) };
    return await sendTransfer(this.client, options, chunks(archive));
  }

  async sh(script: string): Promise<string> {
    const { code, stdout } = await exec(this.client, `proc_${++this.#commands}`, ["sh", "-c", script]);
    assert.equal(code, 0, script);
    return stdout.toString("latin1");
  }

  async end(): Promise<void> {
    this.client.close();
    await this.machine.kill();
  }
}

async function* chunks(archive: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < archive.length; at += 65_536) yield archive.subarray(at, at + 65_536);
}

/** An archive of a directory, made as the client makes one. */
function archiveOf(directory: string): Buffer {
  const script =
    "find . -mindepth 1 -print0 | tar --create --format=posix --sparse --no-recursion --null --verbatim-files-from -T -";
  return execFileSync("sh", ["-c", script], { cwd: directory, maxBuffer: 2 ** 30 });
}

/** One line for each path, the same on host and guest: names, kinds, modes, times, link targets, link counts. */
const LISTING =
  "find . -mindepth 1 -printf '%P|%y|%m|%U:%G|%n|%T@|%l|' \\( -type f -printf '%s' -o -true \\) -printf '\\0' | sort -z";
const SUMS = "find . -type f -size -100M -print0 | sort -z | xargs -0 sha256sum";

function onHost(directory: string, script: string): string {
  return execFileSync("sh", ["-c", script], { cwd: directory, encoding: "latin1", maxBuffer: 2 ** 28 });
}

/** Directories' link counts say nothing: overlayfs tells 1. */
const comparable = (listing: string) =>
  listing
    .split("\0")
    .map((line) => line.replace(/\|d\|(\d+)\|(\d+:\d+)\|\d+\|/, "|d|$1|$2|-|"))
    .sort();

const TREE = `
umask 022
mkdir -p src/deep/er 'dir with spaces' empty sticky
printf '#!/bin/sh\\n' >src/run.sh; chmod 0755 src/run.sh
printf one >src/deep/er/one; chmod 0600 src/deep/er/one
printf two >"$(printf 'name\\nwith\\nnewlines')"
printf three >"$(printf 'not\\377utf\\2008')"
printf s >setuid; chmod 4755 setuid
printf w >writable; chmod 0666 writable
ln src/run.sh hard
ln -s ../src/run.sh 'dir with spaces/up'; ln -s /absolute/nowhere dangling
for i in $(seq 1 200); do printf "$i" >src/deep/f$i; done
chmod 1777 sticky; chown -R 1234:1234 .
truncate -s 2G sparse; printf middle | dd of=sparse bs=1 seek=1500000000 conv=notrunc 2>/dev/null
chown 0:0 . -R -h
find . -depth -mindepth 1 -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
chmod 4755 setuid
`;

async function place(t: TestContext, room: MachineRoom, name: string): Promise<string> {
  const directory = await room.scratch(name);
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const coded = (code: string) => (error: unknown) => {
  assert.ok(error instanceof PyroError, String(error));
  assert.equal(error.code, code, error.message);
  return true;
};

test("seed and push arrive file by file, refusals change nothing, and the disk can be held still", {
  timeout: 600_000,
}, async (t) => {
  await using room = await MachineRoom.open();
  const disk = join(room.directory, "disk.ext4");
  await formatDisk(disk, DISK_MIB);
  const guest = await Guest.start(room, "transfer", disk);
  const source = await place(t, room, "source");
  onHost(source, TREE);
  const archive = archiveOf(source);
  const count = onHost(source, "find . -mindepth 1 -printf x").length;

  await t.test("seed", async () => {
    assert.deepEqual((await guest.send(archive)).entryCount, count);
    assert.deepEqual(comparable(await guest.sh(LISTING)), comparable(onHost(source, LISTING)));
    assert.equal(await guest.sh(SUMS), onHost(source, SUMS));
    assert.ok(Number(await guest.sh("stat -c %b sparse")) < 100);
    assert.equal(await guest.sh("dd if=sparse bs=1 skip=1500000000 count=6 2>/dev/null"), "middle");
    assert.equal(await guest.sh("ls -A / | grep pyro || true"), "");
  });

  await t.test("push over it", async () => {
    await guest.sh("echo changed >src/deep/f7; rm hard; ln -s /etc/passwd hard; echo mine >mine; chmod 700 empty");
    await guest.send(archive);
    const [got, want] = [comparable(await guest.sh(LISTING)), comparable(onHost(source, LISTING))];
    assert.deepEqual(
      got.filter((line) => !line.startsWith("mine|")),
      want,
    );
    // The link that stood in the way was replaced, and what it led to is as it was.
    assert.match(await guest.sh("cat mine; rm mine; head -n1 /etc/passwd"), /^mine\nroot:/);
  });

  await t.test("hostile archives fail whole", async () => {
    const before = await guest.sh(LISTING);
    const evil = await place(t, room, "evil");
    const made = (script: string) => execFileSync("sh", ["-c", script], { cwd: evil, maxBuffer: 2 ** 28 });
    onHost(evil, "echo x >file; mkdir dir; ln -s /etc link; mkfifo fifo; mkdir -p real/link; echo y >real/link/passwd");
    const all: [string, Buffer][] = [
      ["PATH_OUTSIDE", made("tar -cP --transform 's,file,../../etc/evil,' file")],
      ["PATH_OUTSIDE", made("tar -cP --transform 's,file,/etc/evil,' file")],
      ["PATH_OUTSIDE", made("tar -c link -C real link/passwd")],
      ["ARCHIVE_INVALID", made("tar -c file fifo")],
      ["ARCHIVE_INVALID", made("tar -c /dev/null 2>/dev/null")],
      ["ARCHIVE_INVALID", archive.subarray(0, archive.length >> 1)],
      ["ARCHIVE_INVALID", Buffer.from("this is no archive at all, whatever it is".repeat(1000))],
      ["PATH_CONFLICT", made("tar -c --transform 's,file,src/deep,' file")],
      ["LIMIT_EXCEEDED", made("truncate -s 20G bomb; tar -cS bomb")],
    ];
    for (const [code, bytes] of all) {
      await assert.rejects(guest.send(Buffer.from(bytes)), coded(code));
    }
    await assert.rejects(guest.send(archive.subarray(0, 5000), "/workspace/new/place"), coded("ARCHIVE_INVALID"));
    await guest.sh("ln -s /etc outside");
    onHost(evil, "mkdir -p outside; echo x >outside/evil");
    await assert.rejects(guest.send(Buffer.from(made("tar -c outside/evil"))), coded("PATH_OUTSIDE"));
    await assert.rejects(guest.send(archive, "/workspace/outside"), coded("PATH_OUTSIDE"));
    await guest.sh("rm outside; test ! -e /etc/evil");
    // No room for half of it.
    await guest.sh("fallocate -l $(($(df --output=avail -B1 . | tail -n1) - 5000000)) fill");
    onHost(evil, "head -c 10000000 /dev/urandom >large");
    await assert.rejects(guest.send(made("tar -c large")), coded("GUEST_DISK_FULL"));
    await guest.sh("rm fill");
    assert.deepEqual(comparable(await guest.sh(LISTING)), comparable(before));
    assert.equal(await guest.sh("ls -A / | grep pyro || true"), "");
  });

  await t.test("frozen, copied, clean; thawed by call and by its own clock", async () => {
    const freeze = (ms: bigint, writeManifest: boolean) =>
      guest.client.call((calls, call) => calls.freezeDisk({ deadlineMilliseconds: ms, writeManifest }, call), {
        timeoutMs: 60_000,
      });
    const thaw = () => guest.client.call((calls, call) => calls.thawDisk({}, call), { timeoutMs: 60_000 });
    const hello = () => guest.client.call((calls, call) => calls.hello({}, call), { timeoutMs: 10_000 });
    await guest.sh("echo before >witness");
    const entries = (await freeze(60_000n, true)).manifestEntries;
    assert.equal(entries, BigInt(count + 1));
    assert.equal((await freeze(60_000n, true)).manifestEntries, entries);
    const writing = guest.sh("echo after >witness; cat witness");
    await sleep(300);
    await hello();
    const copy = join(room.directory, "copy.ext4");
    await copySparse(disk, copy, { durable: true });
    assert.equal(await Promise.race([writing, sleep(200, "waits")]), "waits");
    assert.equal((await thaw()).wasFrozen, true);
    assert.equal(await writing, "after\n");
    assert.equal((await thaw()).wasFrozen, false);
    execFileSync("e2fsck", ["-fn", copy], { ...SBIN, stdio: "pipe" });
    const inCopy = (path: string) =>
      execFileSync("debugfs", ["-R", `cat ${path}`, copy], { ...SBIN, stdio: ["ignore", "pipe", "ignore"] });
    assert.equal(inCopy("/upper/workspace/witness"), "before\n");
    assert.match(inCopy("/pyro/manifest"), /^pyroMF/);
    await rm(copy);

    await freeze(1_000n, false);
    const begin = performance.now();
    assert.equal(await guest.sh("echo at last >witness; cat witness; rm witness"), "at last\n");
    assert.ok(performance.now() - begin > 500);
    assert.equal((await thaw()).wasFrozen, false);
    await assert.rejects(freeze(999n, false), /1000/);

    // Root in the workspace has a way to the disk: it is waited for nothing there, and told on.
    await guest.sh("mount /dev/vdb /mnt && rm /mnt/pyro/manifest && mkfifo /mnt/pyro/manifest /mnt/pyro/manifest.new");
    assert.equal((await freeze(60_000n, true)).manifestEntries, entries - 1n);
    await guest.sh("test -f /mnt/pyro/manifest && fsfreeze --unfreeze /mnt");
    assert.equal((await thaw()).wasFrozen, false);
    await guest.sh("umount /mnt && echo still >written && rm written");
  });
  await guest.sh("sync");
  await guest.end();
  assert.doesNotMatch(execFileSync("debugfs", ["-R", "ls /", disk], { ...SBIN, stdio: "pipe" }), /transfer/);
  await checkCopy(room, disk);
});

const ROUNDS = 5;

test(`a microVM that ends in the middle of a push leaves every file old or new, ${ROUNDS} times`, {
  timeout: 600_000,
}, async (t) => {
  await using room = await MachineRoom.open();
  const disk = join(room.directory, "disk.ext4");
  await formatDisk(disk, DISK_MIB);
  const random = Seeded.fromEnvironment();
  t.diagnostic(`PYRO_SEED=${random.seed}`);
  const source = await place(t, room, "source");
  const FILES = 300;
  const content = (version: number, index: number) => `${version} ${index}\n`.repeat(400);
  const version = async (number: number) => {
    for (let index = 0; index < FILES; index++) {
      const directory = join(source, `d${index % 7}`);
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, `f${index}`), content(number, index));
    }
    return archiveOf(source);
  };
  let guest = await Guest.start(room, "kill-0", disk);
  const pushed = async (archive: Buffer) => {
    let sent = 0;
    await guest.send(archive, "/workspace", () => {
      sent = performance.now();
    });
    return performance.now() - sent;
  };
  await pushed(await version(0));
  // How long a push over all files takes from the archive's last byte on: syncing, then putting them in their places.
  const finishMs = await pushed(await version(0));
  let mixed = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    const archive = await version(round);
    let sent = () => {};
    const allSent = new Promise<void>((resolve) => {
      sent = resolve;
    });
    const pushing = guest.send(archive, "/workspace", (total) => total === archive.length && sent()).catch(() => {});
    await allSent;
    await sleep(random.next() * finishMs);
    await guest.end();
    await pushing;
    guest = await Guest.start(room, `kill-${round}`, disk);
    const seen = new Set<number>();
    const lines = (await guest.sh("sha256sum d*/f*")).trimEnd().split("\n");
    assert.equal(lines.length, FILES);
    for (const line of lines) {
      const [sum, path] = line.split("  ");
      const index = Number(path?.replace(/.*f/, ""));
      const number = [...Array(round + 1).keys()].find(
        (candidate) => sha256(Buffer.from(content(candidate, index))) === sum,
      );
      assert.ok(number !== undefined, `${path} is neither old nor new`);
      seen.add(number);
    }
    if (seen.size > 1) mixed++;
    t.diagnostic(`round ${round}: versions ${[...seen].join(", ")}`);
    // What was staged is gone soon after the start.
    for (let tries = 0; (await guest.sh("ls -A / | grep pyro || true")) !== ""; tries++) {
      assert.ok(tries < 50, "staging is left");
      await sleep(100);
    }
  }
  t.diagnostic(`${mixed} rounds were cut in the middle of the commit`);
  await guest.end();
  await checkCopy(room, disk);
});

/** A kill leaves a journal to be replayed, and nothing worse. */
async function checkCopy(room: MachineRoom, disk: string): Promise<void> {
  const copy = join(room.directory, "check.ext4");
  await copySparse(disk, copy);
  try {
    execFileSync("e2fsck", ["-p", copy], { ...SBIN, stdio: "pipe" });
  } catch (error) {
    // 1: the journal was replayed.
    assert.equal((error as { status: number }).status, 1, String((error as { stdout: string }).stdout));
  }
  execFileSync("e2fsck", ["-fn", copy], { ...SBIN, stdio: "pipe" });
  await rm(copy);
}
