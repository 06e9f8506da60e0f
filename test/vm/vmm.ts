// What must hold of every VMM, read from /proc while it runs: who it is, what it has open, what it sees.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const NAMESPACES = ["mnt", "pid", "net", "ipc", "uts", "user"];

/** No privileges, seccomp on every thread, namespaces of its own. Returns the user that it runs as. */
export async function checkConfined(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    assert.equal(field(set), "0000000000000000", set);
  assert.equal(field("NoNewPrivs"), "1");
  const uids = field("Uid").split(/\s+/);
  assert.equal(new Set(uids).size, 1);
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
  return Number(uids[0]);
}

/** The template's memory is sealed; of files there are only the base, read-only, and its own disk and state. */
export async function checkDescriptors(pid: number): Promise<void> {
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
    } else if (/\.squashfs$|\/state$|\/baseline\.ext4$/.test(target)) {
      assert.equal(writable, false, target);
      files.push(target);
    } else if (/disk\.ext4$/.test(target)) {
      files.push(target);
    }
  }
  assert.equal(new Set(files.filter((file) => file.endsWith("disk.ext4"))).size, 1, files.join(" "));
}

/** Its root holds its own directory and system files: no home of ours, no other microVM. */
export async function checkFiles(pid: number, ...homes: string[]): Promise<void> {
  const root = `/proc/${pid}/root`;
  for (const hidden of [...homes, "/root", "/home", "/tmp", "/etc/shadow", "/run"]) {
    await assert.rejects(stat(join(root, hidden)), { code: "ENOENT" }, hidden);
  }
  const own = (await readdir(join(root, "vm"))).sort();
  assert.ok(own.includes("qmp.sock"), own.join(" "));
  const mounts = await readFile(`/proc/${pid}/mountinfo`, "utf8");
  for (const line of mounts.trimEnd().split("\n")) {
    const [, , , source = "", point = "", options = ""] = line.split(" ");
    for (const home of homes) assert.ok(!source.startsWith(home), `${source} is mounted at ${point}`);
    if (point === "/vm" || point.startsWith("/proc") || point.startsWith("/dev")) continue;
    assert.match(options, /(^|,)ro(,|$)/, `${point} is writable`);
  }
}
