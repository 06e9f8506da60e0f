// The doctor on hosts that lack something: real ones, made in namespaces around the daemon. Each lack has its line and
// its way out.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PYRO, sharedHome, startProgram } from "./harness.ts";

const NEEDS_ROOT = process.getuid?.() === 0 ? false : "namespaces around the daemon as these are root's to make";

interface Report {
  readonly ok: boolean;
  readonly checks: readonly {
    name: string;
    status: string;
    message: string;
    fix: string | null;
    package: string | null;
  }[];
}

/** The doctor's report from within namespaces that `unshare` makes, after `prepare` (a shell's words; $HOME_OF_PYRO). */
async function examined(unshare: readonly string[], prepare: string): Promise<Report> {
  const home = await mkdtemp(join(tmpdir(), "pyro-home-"));
  // The daemon has to start within the namespaces, and it ends before they do.
  const script = `set -e
    ${prepare}
    ln -s "$ENVIRONMENTS" "$PYRO_HOME/environments"
    "$@" doctor --json || status=$?
    "$@" daemon stop >&2
    exit \${status:-0}`;
  try {
    const args = [...unshare, "--", "sh", "-c", script, "sh", process.execPath, PYRO];
    const env = { PYRO_HOME: home, ENVIRONMENTS: join(sharedHome(), "environments") };
    const { status, stdout, stderr } = await startProgram("unshare", args, { env }).finished;
    assert.ok(stdout.length > 0, `status ${status}: ${stderr}`);
    const report = JSON.parse(stdout.toString()) as Report;
    assert.equal(status, report.ok ? 0 : 1, stderr.toString());
    return report;
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

function line(report: Report, name: string): Report["checks"][number] {
  const found = report.checks.find((check) => check.name === name);
  assert.ok(found, `no ${name} in ${JSON.stringify(report.checks)}`);
  return found;
}

test("a program that is missing, and one that is too old", { skip: NEEDS_ROOT }, async () => {
  const report = await examined(
    ["--mount"],
    `mount --bind /dev/null /usr/bin/mmdebstrap
     printf '#!/bin/sh\\necho bubblewrap 0.6.1\\n' > "$PYRO_HOME/bwrap"; chmod 755 "$PYRO_HOME/bwrap"
     mount --bind "$PYRO_HOME/bwrap" /usr/bin/bwrap`,
  );
  assert.equal(report.ok, false);
  assert.deepEqual(line(report, "mmdebstrap"), {
    name: "mmdebstrap",
    status: "failed",
    message: "not found; it builds environments",
    fix: "install mmdebstrap (Debian and Ubuntu: apt-get install mmdebstrap)",
    package: "mmdebstrap",
  });
  assert.equal(line(report, "bwrap").status, "failed");
  assert.match(line(report, "bwrap").fix ?? "", /0\.8 or newer/);
});

test("user namespaces that are used up", async () => {
  // The setting is one of each user namespace, so that it can be changed for this daemon alone. Its user has no name.
  const uid = 1_234_567;
  const report = await examined(
    ["--user", `--map-user=${uid}`, "--keep-caps"],
    "echo 0 > /proc/sys/user/max_user_namespaces",
  ).finally(() => rm(`/tmp/pyro-${uid}`, { recursive: true, force: true }));
  assert.equal(report.ok, false);
  const { status, message, fix } = line(report, "confinement");
  assert.equal(status, "failed");
  assert.match(message, /bwrap/);
  assert.match(fix ?? "", /sysctl -w user\.max_user_namespaces=/);
});

// Where the tests are an ordinary user's, /tmp/pyro-0 may be the real root's.
test("root without other users, as in a rootless container", { skip: NEEDS_ROOT }, async () => {
  const report = await examined(["--user", "--map-root-user"], "true");
  assert.equal(report.ok, false);
  assert.equal(line(report, "confinement").status, "failed");
  assert.match(line(report, "confinement").fix ?? "", /as an ordinary user there/);
});

test("parts of /proc covered, as in a container", { skip: NEEDS_ROOT }, async () => {
  const report = await examined(["--mount"], "mount -t tmpfs tmpfs /proc/irq");
  assert.equal(report.ok, false);
  assert.match(line(report, "confinement").message, /mount proc/);
  assert.match(line(report, "confinement").fix ?? "", /systempaths=unconfined/);
});

test("no package sources and little room are warnings", { skip: NEEDS_ROOT }, async () => {
  const report = await examined(
    ["--mount"],
    `mkdir "$PYRO_HOME/empty"
     mount --bind "$PYRO_HOME/empty" /etc/apt
     mount -t tmpfs -o size=900m tmpfs "$PYRO_HOME"`,
  );
  assert.equal(report.ok, true, JSON.stringify(report.checks));
  assert.equal(line(report, "package sources").status, "warning");
  assert.match(line(report, "package sources").fix ?? "", /sources\.list\.d/);
  assert.equal(line(report, "disk").status, "warning");
  assert.match(line(report, "disk").fix ?? "", /PYRO_HOME/);
});
