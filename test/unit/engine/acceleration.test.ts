// The choice of a driver: the first that works, asked once; one that was named, or an error that says why not.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Driver } from "../../../src/drivers/driver.ts";
import { Acceleration } from "../../../src/engine/acceleration.ts";
import type { Candidate, Obstacle, Way } from "../../../src/engine/candidates.ts";
import { pathsFor } from "../../../src/engine/paths.ts";
import type { Settings } from "../../../src/engine/settings.ts";
import type { ErrorCode } from "../../../src/errors/codes.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { Launcher } from "../../../src/launcher/launcher.ts";

const BOOT = {
  kernel: { path: "/kernel", sha256: "1", uncompressed: async () => "/vmlinux" },
  initramfs: { path: "/initramfs", sha256: "2" },
};
const FIRECRACKER: Way = { name: "firecracker", acceleration: "kvm" };
const QEMU_KVM: Way = { name: "qemu", acceleration: "kvm" };
const QEMU_TCG: Way = { name: "qemu", acceleration: "tcg" };

/** A way whose guests boot, or fail so. `boots` counts the tries. */
function way(of: Way, failure?: PyroError): Candidate & { readonly boots: () => number } {
  let boots = 0;
  const driver: Driver = {
    name: of.name,
    features: {
      acceleration: of.acceleration,
      pause: true,
      hotAttach: false,
      readOnlyDrives: false,
      stopsWhenFull: false,
    },
    fence: "nothing",
    fingerprint: async () => `${of.name} ${of.acceleration}`,
    prepare: async (key, _spec, directory) => {
      boots++;
      if (failure !== undefined) throw failure;
      return { key, directory };
    },
    discard: async () => {},
    restore: async () => {
      throw new Error("nothing is restored");
    },
  };
  return { ...of, driver, boots: () => boots };
}

function blocked(of: Way, obstacle: Obstacle): Candidate {
  return { ...of, driver: undefined, obstacle };
}

async function ground(driver: Settings["driver"], ...list: Candidate[]) {
  const home = await mkdtemp(join(tmpdir(), "pyro-choice-"));
  const paths = pathsFor({ PYRO_HOME: home }, process.getuid?.() ?? 0);
  const options = {
    program: "/bin/false",
    socketPath: paths.launcherSocket,
    vmsDirectory: paths.vms,
    logPath: paths.launcherLog,
  };
  const settings = {
    driver,
    firecracker: undefined,
    unconfined: false,
    poolSize: 0,
    templateLimit: 8,
    networkNamespace: undefined,
    nameServers: undefined,
    publicRanges: undefined,
    networkMibPerSecond: 0,
    brokerAuthorities: undefined,
  };
  return {
    /** A daemon's; each has its own memory, and all have the home's. */
    acceleration: () => new Acceleration(paths, new Launcher(options), settings, async () => list),
    [Symbol.asyncDispose]: () => rm(home, { recursive: true }),
  };
}

const noProgress = () => {};
const noBoot = new PyroError("MICROVM_START_FAILED", "The guest did not boot within 40 s.");

function withCode(code: ErrorCode, message: RegExp) {
  return (thrown: unknown): boolean => {
    assert.ok(thrown instanceof PyroError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  };
}

test("the first that works is chosen, and asked once", async () => {
  const [first, second] = [way(FIRECRACKER), way(QEMU_TCG)];
  await using home = await ground("auto", first, second);
  const acceleration = home.acceleration();
  const chosen = await Promise.all([1, 2].map(() => acceleration.choose(BOOT, noProgress)));
  assert.deepEqual(
    chosen.map(({ driver }) => driver),
    [first.driver, first.driver],
  );
  assert.equal((await home.acceleration().choose(BOOT, noProgress)).driver, first.driver);
  assert.deepEqual([first.boots(), second.boots()], [1, 0]);
});

test("a KVM that is there and does not work costs its wait once, for each VMM", async () => {
  const [first, second, third] = [way(FIRECRACKER, noBoot), way(QEMU_KVM, noBoot), way(QEMU_TCG)];
  await using home = await ground("auto", first, second, third);
  for (let round = 0; round < 3; round++) {
    const { driver, considered } = await home.acceleration().choose(BOOT, noProgress);
    assert.equal(driver, third.driver);
    assert.deepEqual(
      considered.map(({ name, works, tried }) => [name, works, tried]),
      [
        ["firecracker", false, true],
        ["qemu", false, true],
        ["qemu", true, true],
      ],
    );
    assert.match(considered[0]?.message ?? "", /did not run in Firecracker under KVM: The guest did not boot/);
  }
  assert.deepEqual([first.boots(), second.boots(), third.boots()], [1, 1, 0]);
});

test("one that is named is never replaced by another", async () => {
  const [first, other] = [way(FIRECRACKER, noBoot), way(QEMU_TCG)];
  await using home = await ground("firecracker", first, other);
  await assert.rejects(
    home.acceleration().choose(BOOT, noProgress),
    withCode("DRIVER_UNAVAILABLE", /firecracker was asked for and cannot be used here: a probe guest did not run/),
  );
  // A call's own word goes over the setting.
  assert.equal((await home.acceleration().choose(BOOT, noProgress, "qemu")).driver, other.driver);
  await using missing = await ground(
    "auto",
    blocked(FIRECRACKER, { message: "it was not found", fix: "get it" }),
    other,
  );
  await assert.rejects(
    missing.acceleration().choose(BOOT, noProgress, "firecracker"),
    withCode("DRIVER_UNAVAILABLE", /it was not found \(get it\)/),
  );
  const { driver, considered } = await missing.acceleration().choose(BOOT, noProgress);
  assert.equal(driver, other.driver);
  assert.deepEqual([considered[0]?.tried, considered[0]?.fix], [false, "get it"]);
});

test("what says nothing of KVM is told and not remembered", async () => {
  const full = way(FIRECRACKER, new PyroError("HOST_DISK_FULL", "There is no room."));
  await using home = await ground("auto", full, way(QEMU_TCG));
  const acceleration = home.acceleration();
  for (let round = 0; round < 2; round++) {
    await assert.rejects(acceleration.choose(BOOT, noProgress), withCode("HOST_DISK_FULL", /no room/));
  }
  assert.equal(full.boots(), 2);
});

test("a host without QEMU needs it only when nothing else works", async () => {
  const qemu = blocked(QEMU_TCG, { message: "qemu-system-x86_64 is not installed.", fix: "Install it." });
  await using lacking = await ground("auto", way(FIRECRACKER, noBoot), qemu);
  await assert.rejects(lacking.acceleration().choose(BOOT, noProgress), withCode("HOST_TOOL_MISSING", /not installed/));
  const works = way(FIRECRACKER);
  await using enough = await ground("auto", works, qemu);
  assert.equal((await enough.acceleration().choose(BOOT, noProgress)).driver, works.driver);
});
