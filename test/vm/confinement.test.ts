// What a VMM may do, read from /proc while one runs: who it is, what it sees, what it can write.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ownHome, startPyro } from "./harness.ts";

const NAMESPACES = ["mnt", "pid", "net", "ipc", "uts", "user"];

test("the VMM runs unprivileged, sandboxed, in its own namespaces", { timeout: 300_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const runs = [1, 2].map(() => startPyro(["run", "--", "sh", "-c", "echo ready; sleep 300"], { env: home.env }));
  for (const run of runs) await run.untilOutput("ready");
  const vmms = await home.processes(/qemu-system/);
  assert.equal(vmms.length, 2);
  const users = new Set<string>();
  for (const pid of vmms) {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
      assert.equal(field(set), "0000000000000000", set);
    assert.equal(field("NoNewPrivs"), "1");
    const uids = field("Uid").split(/\s+/);
    if (process.getuid?.() === 0) assert.ok(Number(uids[0]) >= 1_900_000_000, `uid ${uids[0]}`);
    assert.equal(new Set(uids).size, 1);
    users.add(uids[0] ?? "");
    for (const thread of await readdir(`/proc/${pid}/task`)) {
      const own = await readFile(`/proc/${pid}/task/${thread}/status`, "utf8");
      assert.match(own, /^Seccomp:\s*2$/m, `thread ${thread} of ${pid}`);
    }
    for (const namespace of NAMESPACES) {
      assert.notEqual(
        await readlink(`/proc/${pid}/ns/${namespace}`),
        await readlink(`/proc/self/ns/${namespace}`),
        namespace,
      );
    }
    assert.equal((await readFile(`/proc/${pid}/oom_score_adj`, "utf8")).trim(), "1000");
    await checkDescriptors(pid);
    await checkFiles(pid, home.path);
  }
  if (process.getuid?.() === 0) assert.equal(users.size, 2, "two microVMs share a user");
  for (const run of runs) run.child.kill("SIGTERM");
  for (const run of runs) await run.finished;
});

/** The template's memory is sealed; of files there are only the base, read-only, and its own disk and state. */
async function checkDescriptors(pid: number): Promise<void> {
  const files: string[] = [];
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
    const flags = Number.parseInt(
      /flags:\s*(\d+)/.exec(await readFile(`/proc/${pid}/fdinfo/${fd}`, "utf8").catch(() => ""))?.[1] ?? "0",
      8,
    );
    const writable = (flags & 3) !== 0;
    if (target.startsWith("/memfd:")) {
      const { stdout } = await promisify(execFile)("python3", [
        "-c",
        `import fcntl, os; print(fcntl.fcntl(os.open("/proc/${pid}/fd/${fd}", os.O_RDONLY), 1034))`,
      ]);
      // F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
      assert.equal(Number(stdout) & 0xf, 0xf, "the template's memory is not sealed");
    } else if (/\.squashfs$|\/state$/.test(target)) {
      assert.equal(writable, false, target);
      files.push(target);
    } else if (/disk\.ext4$/.test(target)) {
      files.push(target);
    }
  }
  assert.equal(new Set(files.filter((file) => file.endsWith("disk.ext4"))).size, 1, files.join(" "));
}

/** Its root holds its own directory and system files: no home of ours, no other microVM. */
async function checkFiles(pid: number, home: string): Promise<void> {
  const root = `/proc/${pid}/root`;
  for (const hidden of [home, "/root", "/home", "/tmp", "/etc/shadow", "/run"]) {
    await assert.rejects(stat(join(root, hidden)), { code: "ENOENT" }, hidden);
  }
  const own = (await readdir(join(root, "vm"))).sort();
  assert.ok(own.includes("qmp.sock"), own.join(" "));
  const mounts = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  for (const line of mounts.trimEnd().split("\n")) {
    const [, , , , point = "", options = ""] = line.split(" ");
    if (point === "/vm" || point.startsWith("/proc") || point.startsWith("/dev")) continue;
    assert.match(options, /(^|,)ro(,|$)/, `${point} is writable`);
  }
}
