// What the tests in the lab share: that they run there at all, and a home of their own with the driver under test. The
// tests of test/vm run there too, with PYRO_DRIVER=firecracker; these are what only Firecracker has.
//
//   scripts/lab --with ENVIRONMENTS:/tmp/home/environments \
//     'PYRO_HOME=/tmp/home PYRO_DRIVER=firecracker node --test --test-concurrency=1 test/lab/*.test.ts'
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type OwnHome, sharedHome, VMM } from "../vm/harness.ts";

/** The whole guest is emulated: a command takes 2 s before its first line. */
export const STEP_MS = 120_000;

/** Fails where the tests would run with something else than what they are about. */
export function checkLab(): void {
  assert.equal(process.env.PYRO_DRIVER, "firecracker", "PYRO_DRIVER must be firecracker: see the head of this file");
  sharedHome();
}

/** The process of the one microVM of a home. */
export async function vmmOf(home: OwnHome): Promise<number> {
  const [pid, ...others] = await home.processes(VMM);
  assert.ok(pid !== undefined && others.length === 0, `${1 + others.length} VMMs, or none`);
  return pid;
}

/** Fields of /proc/PID/status. */
export async function statusOf(pid: number | string): Promise<(field: string) => string> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  return (field) => new RegExp(`^${field}:[ \\t]*(.*)$`, "m").exec(text)?.[1] ?? "";
}
