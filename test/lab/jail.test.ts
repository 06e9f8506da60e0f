// What a jailed Firecracker is, read back from /proc while it runs: its root, its user, its cgroup, its seccomp filter,
// and that what it shares with others cannot be changed by it.
import assert from "node:assert/strict";
import { lstat, readdir, readFile, readlink, stat } from "node:fs/promises";
import { basename } from "node:path";
import { after, before, test } from "node:test";
import { type OwnHome, ownHome, VMM } from "../vm/harness.ts";
import { Workspaces } from "../vm/workspaces.ts";
import { checkLab, STEP_MS, statusOf } from "./lab.ts";

/** What the jail holds and nothing else: Firecracker's own files, sockets and devices, and the files it was given. */
const JAIL = [
  "api.sock",
  "aux",
  "base",
  "baseline",
  "dev",
  "firecracker",
  "firecracker.pid",
  "memory",
  "run",
  "state",
  "v.sock",
  "writable",
];
const GIVEN_READ_ONLY = ["/base", "/memory", "/state"];

let home: OwnHome;

before(async () => {
  checkLab();
  home = await ownHome({ templates: true });
});

after(async () => {
  await home[Symbol.asyncDispose]();
});

test("chroot, user, cgroup and seccomp of two microVMs", { timeout: 4 * STEP_MS }, async (context) => {
  if (process.getuid?.() !== 0) return context.skip("the jailer is root's");
  const all = new Workspaces(home.env);
  await using one = await all.create();
  await using two = await all.create();
  const pids = await home.processes(VMM);
  assert.equal(pids.length, 2);
  const users = new Set<string>();
  const groups = new Set<string>();
  for (const pid of pids) {
    users.add(await privileges(pid));
    groups.add(await cgroup(pid));
    await namespaces(pid);
    await root(pid);
  }
  assert.equal(users.size, 2, "two microVMs share a user");
  assert.equal(groups.size, 2, "two microVMs share a cgroup");
  // The disks are their users' own as long as they run, and root's again afterwards: nobody else gets there anyway.
  for (const { id } of [one, two]) {
    const disk = await stat(`${home.paths.workspaces}/${id}/disk.ext4`);
    assert.ok(users.has(String(disk.uid)), `the disk of ${id} is ${disk.uid}'s`);
    assert.equal((await stat(`${home.paths.workspaces}/${id}`)).mode & 0o077, 0);
  }
  assert.equal(await one.sh("echo fine"), "fine\n");
  await all.ask(["update", one.id, "--ttl-seconds", "1"]);
  await one.untilState("stopped");
  const { uid, mode } = await stat(`${home.paths.workspaces}/${one.id}/disk.ext4`);
  assert.deepEqual([uid, mode & 0o777], [0, 0o600]);
});

/** No privilege, a filter on every thread. Returns its user. */
async function privileges(pid: number): Promise<string> {
  const field = await statusOf(pid);
  const uids = field("Uid").split(/\s+/);
  assert.equal(new Set([...uids, ...field("Gid").split(/\s+/)]).size, 1, field("Uid"));
  assert.ok(Number(uids[0]) >= 1_900_000_000, field("Uid"));
  assert.equal(field("Groups").trim(), "");
  for (const set of ["CapPrm", "CapEff", "CapAmb"]) assert.equal(Number.parseInt(field(set), 16), 0, set);
  assert.equal(field("NoNewPrivs"), "1");
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const own = await statusOf(`${pid}/task/${thread}`);
    assert.equal(own("Seccomp"), "2", `thread ${own("Name")}`);
  }
  assert.equal((await readFile(`/proc/${pid}/oom_score_adj`, "utf8")).trim(), "1000");
  return uids[0] ?? "";
}

/** One of its own, with bounds. */
async function cgroup(pid: number): Promise<string> {
  const path = /^0::(.*)$/m.exec(await readFile(`/proc/${pid}/cgroup`, "utf8"))?.[1] ?? "";
  assert.match(path, /\/pyro\/[0-9a-f]{8}-ws_[a-z2-7]{10}-[0-9a-f]{8}$/);
  for (const bound of ["memory.max", "pids.max"]) {
    assert.match((await readFile(`/sys/fs/cgroup${path}/${bound}`, "utf8")).trim(), /^\d+$/, bound);
  }
  return path;
}

async function namespaces(pid: number): Promise<void> {
  for (const namespace of ["mnt", "pid", "net", "ipc", "uts"]) {
    const own = await readlink(`/proc/self/ns/${namespace}`);
    assert.notEqual(await readlink(`/proc/${pid}/ns/${namespace}`), own, namespace);
  }
}

/** Its root is the jail: there are its own files, and of others' only what it may not change. */
async function root(pid: number): Promise<void> {
  const inside = `/proc/${pid}/root`;
  assert.deepEqual((await readdir(inside)).sort(), JAIL);
  assert.deepEqual((await readdir(`${inside}/dev`)).sort(), ["kvm", "net", "urandom", "userfaultfd"]);
  const mounts = (await readFile(`/proc/${pid}/mountinfo`, "utf8")).trimEnd().split("\n");
  const points = new Map(mounts.map((line) => [line.split(" ")[4] ?? "", line.split(" ")[5] ?? ""]));
  assert.deepEqual([...points.keys()].sort(), ["/", ...GIVEN_READ_ONLY, "/writable"].sort());
  for (const point of GIVEN_READ_ONLY) {
    assert.match(points.get(point) ?? "", /(^|,)ro(,|$)/, `${point} can be written to`);
    const { uid, mode } = await lstat(`${inside}${point}`);
    assert.deepEqual([uid, mode & 0o222], [0, 0], `${point} is ${uid}'s, mode ${mode.toString(8)}`);
  }
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
    if (!GIVEN_READ_ONLY.includes(target)) continue;
    const flags = /flags:\s*(\d+)/.exec(await readFile(`/proc/${pid}/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
    assert.equal(Number.parseInt(flags, 8) & 3, 0, `${basename(target)} is open for writing`);
  }
  // The template's memory is mapped so that nobody else sees what is written to it.
  const maps = (await readFile(`/proc/${pid}/maps`, "utf8")).split("\n").filter((line) => line.endsWith(" /memory"));
  assert.ok(maps.length > 0);
  for (const line of maps) assert.match(line.split(" ")[1] ?? "", /p$/, line);
}
