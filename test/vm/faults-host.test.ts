// Real faults of the host: its directories read-only, full, too long, foreign or filled with garbage, its memory short.
// Each ends in a code with a way out, nothing hangs, and the next call works once the fault is gone.
import assert from "node:assert/strict";
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { hostMemory } from "../../src/host/resources.ts";
import { codeOf, inNamespace, nothingRuns, refused, told, worksAgain } from "./faulty.ts";
import { OwnHome, ownHome, pyro, runOk, sharedHome } from "./harness.ts";

const isRoot = process.getuid?.() === 0;
const NEEDS_ROOT = "mounting in a namespace takes root";

/** The lines that a script of inNamespace printed as JSON, in order. */
function documents(stdout: Buffer): string[] {
  return stdout.toString().trimEnd().split("\n");
}

test("a state directory that is read-only", { timeout: 300_000 }, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using home = await ownHome({ templates: true });
  // Read-only as a whole before there is a daemon, and in its records under one that runs (a mount that is being
  // written to cannot be made read-only: the record of the run before may still be on its way).
  const script = `
    mount --bind "$PYRO_HOME" "$PYRO_HOME"
    mount -o remount,bind,ro "$PYRO_HOME"
    pyro run --json -- true || true
    mount -o remount,bind,rw "$PYRO_HOME"
    pyro run -- echo fine
    mount --bind "$PYRO_HOME/runs" "$PYRO_HOME/runs"
    for attempt in 1 2 3 4 5; do
      mount -o remount,bind,ro "$PYRO_HOME/runs" 2>/dev/null && break
      sleep 1
    done
    findmnt -n -o OPTIONS "$PYRO_HOME/runs" | grep -qw ro
    pyro run --json -- true || true
    mount -o remount,bind,rw "$PYRO_HOME/runs"
    pyro run -- echo fine again
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script);
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [first = "", fine, second = "", again] = documents(stdout);
  assert.equal(codeOf(first), "HOST_IO_FAILED", first);
  assert.equal(fine, "fine");
  assert.equal(codeOf(second), "HOST_IO_FAILED", second);
  assert.equal(again, "fine again");
  await nothingRuns(home);
});

test("a file system that is full", { timeout: 400_000 }, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using home = await ownHome({ templates: true });
  const shared = sharedHome();
  // The home on a small file system of its own: full before anything, full under a command, and empty again.
  const script = `
    mount -t tmpfs -o size=400m,mode=0700 tmpfs "$PYRO_HOME"
    ln -s "$SHARED/environments" "$PYRO_HOME/environments"
    ln -s "$SHARED/cache" "$PYRO_HOME/cache"
    head -c 400m /dev/zero >"$PYRO_HOME/ballast" 2>/dev/null || true
    pyro run --json -- true || true
    truncate -s 200m "$PYRO_HOME/ballast"
    pyro run --json -- true || true
    rm "$PYRO_HOME/ballast"
    pyro run --json -- sh -c 'dd if=/dev/zero of=/big bs=1M count=600 conv=fsync >/dev/null 2>&1; sleep 1000' || true
    pyro run -- echo fine
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script, { SHARED: shared });
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [full = "", low = "", filled = "", fine] = documents(stdout);
  assert.equal(codeOf(full), "HOST_DISK_FULL", full);
  assert.equal(codeOf(low), "HOST_DISK_FULL", low);
  // The guest has an I/O error, which may leave the command waiting and says nothing to anyone: the host does.
  assert.equal(codeOf(filled), "HOST_DISK_FULL", filled);
  assert.equal(fine, "fine");
  await nothingRuns(home);
});

test("a path that is long works, and one that is too long is refused", { timeout: 200_000 }, async () => {
  await using outer = await ownHome({ templates: true });
  const long = join(outer.path, ...Array.from({ length: 8 }, () => "x".repeat(200)));
  await mkdir(long, { recursive: true });
  {
    await using home = new OwnHome(long);
    for (const name of ["environments", "cache"]) await symlink(join(sharedHome(), name), join(long, name));
    await worksAgain(home);
  }
  for (const path of [join(outer.path, "x".repeat(256)), join(outer.path, "y/".repeat(2100))]) {
    const { status, stdout } = await pyro(["run", "--json", "--", "true"], { env: { PYRO_HOME: path } });
    assert.equal(status, 125);
    assert.equal(codeOf(stdout), "HOST_IO_FAILED", stdout.toString());
  }
  await worksAgain(outer);
});

test("a host short of memory: HOST_MEMORY_SHORT", { timeout: 120_000 }, async (context) => {
  await using home = await ownHome({ templates: true });
  const { totalMib, availableMib } = await hostMemory();
  // As much as this host can give at all is more than is free of it, and no byte has to be taken from anyone.
  const most = totalMib - 512;
  assert.ok(availableMib < totalMib && totalmem() > 0);
  if (most > 32768) return context.skip("this host has more memory than a microVM may ask for");
  const { code, message } = await refused(home, ["--mem-mib", `${most}`, "--", "true"]);
  assert.equal(code, "HOST_MEMORY_SHORT", message);
  await worksAgain(home);
  await nothingRuns(home);
});

test("a directory of sockets that is not ours", { timeout: 200_000 }, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using home = await ownHome({ templates: true });
  const foreign = await mkdtemp(join(dirname(home.path), "pyro-foreign-"));
  try {
    await chmod(foreign, 0o755);
    await chown(foreign, 65534, 65534);
    const open = join(foreign, "open");
    await mkdir(open);
    await chmod(open, 0o777);
    // Somebody else's; then ours, and anybody may write to it.
    const script = `
      mount --bind "$FOREIGN" "$SOCKETS"
      pyro run --json -- true || true
      umount "$SOCKETS"
      mount --bind "$FOREIGN/open" "$SOCKETS"
      pyro run --json -- true || true
      umount "$SOCKETS"`;
    const sockets = dirname(home.paths.sockets);
    const { status, stdout, stderr } = await inNamespace(home, script, { FOREIGN: foreign, SOCKETS: sockets });
    assert.equal(status, 0, `${stdout}${stderr}`);
    for (const refusal of documents(stdout)) {
      const error = told(refusal);
      assert.equal(error.code, "HOST_IO_FAILED", refusal);
      assert.ok(error.hint.includes(sockets), refusal);
    }
    assert.equal(documents(stdout).length, 2);
    await worksAgain(home);
  } finally {
    await rm(foreign, { recursive: true, force: true });
  }
});

test("what dead daemons left, and garbage in the places of sockets and locks", { timeout: 300_000 }, async () => {
  await using home = await ownHome({ templates: true });
  await worksAgain(home);
  for (const pid of [await home.pid(), ...(await home.processes(/pyro-launch/))]) process.kill(pid, "SIGKILL");
  await worksAgain(home);
  await pyro(["daemon", "stop"], { env: home.env });
  await mkdir(home.paths.control, { recursive: true, mode: 0o700 });
  for (const path of [home.paths.daemonSocket, home.paths.daemonLock]) await writeFile(path, "garbage\n");
  await worksAgain(home);
  await pyro(["daemon", "stop"], { env: home.env });
  await mkdir(home.paths.control, { recursive: true, mode: 0o700 });
  // The launcher removes no file of anybody's, and says which one is in its way.
  await writeFile(home.paths.launcherSocket, "garbage\n");
  const { code: launcherCode, details } = await refused(home);
  assert.equal(launcherCode, "MICROVM_START_FAILED");
  assert.match(String(details.log_tail), /launcher\.sock is there and is not a socket/);
  await rm(home.paths.launcherSocket);
  await worksAgain(home);
  await pyro(["daemon", "stop"], { env: home.env });
  // A directory there is nobody's that we know.
  await mkdir(join(home.paths.daemonSocket, "inside"), { recursive: true, mode: 0o700 });
  const { code } = await refused(home);
  assert.equal(code, "DAEMON_START_FAILED");
  await rm(home.paths.daemonSocket, { recursive: true });
  assert.equal(await runOk(["--", "echo", "fine"], { env: home.env }), "fine\n");
  await nothingRuns(home);
});
