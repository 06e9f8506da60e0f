// What the doctor shows a person.
import assert from "node:assert/strict";
import { test } from "node:test";
import { doctorView } from "../../../src/cli/views/doctor.ts";

test("packages that are missing stand in one command, each once", () => {
  const lacking = (name: string, lacks: string | null) => ({
    name,
    status: "failed" as const,
    message: "not found",
    fix: null,
    package: lacks,
  });
  const report = { ok: false, driver: "qemu", acceleration: null, isolation: "none yet", probe: null };
  const checks = [lacking("bwrap", "bubblewrap"), lacking("setpriv", "util-linux"), lacking("flock", "util-linux")];
  const { stdout, status } = doctorView({ ...report, checks: [...checks, lacking("kvm", null)] });
  assert.equal(status, 1);
  assert.match(String(stdout), /^What is missing, .*: apt-get install bubblewrap util-linux$/m);
  // A daemon from before there was such a field.
  const { package: _, ...older } = lacking("bwrap", null);
  const shown = doctorView({ ...report, checks: [older] } as unknown as Parameters<typeof doctorView>[0]);
  assert.doesNotMatch(String(shown.stdout), /apt-get/);
});
