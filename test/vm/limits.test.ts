// Limits of version 2 cgroups, whatever this host has: the launcher and its own tests run in a microVM, whose kernel has
// nothing else, as root and as an ordinary user to whom a group was delegated.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT, runOk } from "./harness.ts";

const TESTS = "TestLimitsHoldOrAreTold|TestAVMMThatTakesTooMuchMemoryEnds";
const RUN = `/usr/local/bin/launch.test -test.v -test.run '${TESTS}'`;

/** What systemd does for a user's session: a group of theirs, with a leaf for the processes. */
const DELEGATE = `
  mkdir -p /sys/fs/cgroup/theirs/leaf
  echo '+memory +pids +cpu' > /sys/fs/cgroup/theirs/cgroup.subtree_control
  chown -R 1234:1234 /sys/fs/cgroup/theirs
  echo $$ > /sys/fs/cgroup/theirs/leaf/cgroup.procs
`;

test("the launcher bounds microVMs by version 2 cgroups, as root and as a delegated user", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-limits-"));
  try {
    const program = join(directory, "launch.test");
    const env = { ...process.env, CGO_ENABLED: "0" };
    await promisify(execFile)("go", ["test", "-c", "-o", program, "./go/cmd/launch"], { cwd: ROOT, env });
    const script = `set -e
      cat > /usr/local/bin/launch.test; chmod 755 /usr/local/bin/launch.test; cd /tmp
      export PYRO_TEST_ALL_LIMITS=1
      stat -f -c %T /sys/fs/cgroup; echo root; ${RUN}
      ${DELEGATE}
      echo user; setpriv --reuid=1234 --regid=1234 --clear-groups -- ${RUN}`;
    const said = await runOk(["--timeout-seconds", "200", "--", "sh", "-c", script], {
      input: await readFile(program),
    });
    assert.match(said, /^cgroup2fs$/m);
    const [asRoot = "", asUser = ""] = said.slice(said.indexOf("\nroot\n")).split("\nuser\n");
    for (const part of [asRoot, asUser]) {
      assert.match(part, /--- PASS: TestLimitsHoldOrAreTold\/unconfined/, said);
      assert.match(part, /--- PASS: TestAVMMThatTakesTooMuchMemoryEnds/, said);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
