// The first session as an ordinary user: environment built without root, microVM confined all the same, nothing of
// root's needed, and neither it nor root's own pyro in the other's way.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { lstat, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { pathsFor } from "../../src/engine/paths.ts";
import { Account, AS_ROOT, MAPPERS } from "./account.ts";
import { type Finished, sharedHome, startPyro, untilGone, VMM } from "./harness.ts";
import { checkConfined, checkDescriptors, checkFiles } from "./vmm.ts";

const exec = promisify(execFile);
/** Another one who has nothing to do with either. */
const NOBODY = 65_534;

test("the first session as an ordinary user", { timeout: 400_000 }, async () => {
  await using user = await Account.create();
  await buildWithoutRoot(user);
  await followReadme(user);
  await confinedAndApart(user);
  await nothingLeft(user);
});

/** An environment is built in a user namespace, with nothing of root's but the mapping of ids. */
async function buildWithoutRoot(user: Account): Promise<void> {
  if (AS_ROOT) await checkMappersOnly(user);
  const pulled = await user.run(["env", "pull", "debian:12"]);
  assert.equal(pulled.status, 0, said(pulled));
  const logs = join(user.paths.environments, "logs");
  const built = await Promise.all((await readdir(logs)).map((name) => readFile(join(logs, name), "utf8")));
  assert.match(built.join("\n"), /mmdebstrap --mode=unshare /);
  assert.deepEqual(await strangersIn(user.home, user), []);
  for (const place of ["/tmp", "/var/tmp", "/dev/shm"]) assert.deepEqual(await ownedIn(place, user), [], place);
}

/** Where the user's programs run, the setuid bit works for newuidmap and newgidmap and for nothing else. */
async function checkMappersOnly(user: Account): Promise<void> {
  const { stdout } = await user.startProgram("cat", ["/proc/self/mountinfo"]).finished;
  // Of two mounts on one point only the later can be reached.
  const mounts = new Map(
    stdout
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => [line.split(" ")[4], line.split(" ")[5]] as const),
  );
  const setuid = [...mounts].filter(([, options]) => !options?.includes("nosuid")).map(([point]) => point);
  assert.deepEqual(setuid.sort(), [...MAPPERS].sort());
}

async function followReadme(user: Account): Promise<void> {
  const doctor = await user.run(["doctor", "--json"]);
  assert.equal(doctor.status, 0, said(doctor));
  const report = JSON.parse(doctor.stdout.toString()) as { ok: boolean; checks: { name: string; status: string }[] };
  assert.equal(report.ok, true);
  assert.equal(report.checks.find(({ name }) => name === "confinement")?.status, "ok");

  const script = "uname -r; id -u; df -h /";
  const ran = await user.run(["run", "--", "sh", "-c", script]);
  assert.equal(ran.status, 0, said(ran));
  assert.match(ran.stdout.toString(), /^6\.1\.0-\d+-cloud-amd64\n0\n/);
  const piped = await user.run(["run", "--", "python3", "-"], { input: "print(6 * 7)\n" });
  assert.equal(piped.stdout.toString(), "42\n", said(piped));
  const network = await user.run(["run", "--network-policy", "egress", "--", "cat", "/sys/class/net/pyro0/mtu"]);
  assert.equal(network.stdout.toString(), "65520\n", network.stderr.toString());
  const late = await user.run(["run", "--timeout-seconds", "1", "--", "sleep", "60"]);
  assert.equal(late.status, 124, said(late));
  const terminal = await user.run(["run", "-t", "--", "sh", "-c", "test -t 0 && tty"]);
  assert.match(terminal.stdout.toString(), /^\/dev\/pts\/\d+\r\n$/, said(terminal));
}

/** Its microVM is confined, and two users at once leave each other alone. */
async function confinedAndApart(user: Account): Promise<void> {
  const own = user.start(["run", "--", "sh", "-c", "echo ready; sleep 300"]);
  const other = startPyro(["run", "--", "sh", "-c", "echo ready; read word; echo $word"], { keepStdin: true });
  try {
    await Promise.all([own.untilOutput("ready"), other.untilOutput("ready")]);
    const vmms = await user.processes(VMM);
    assert.ok(vmms.length > 0);
    let withDisk = 0;
    for (const pid of vmms) {
      assert.equal(await checkConfined(pid), user.uid);
      await checkFiles(pid, user.home, sharedHome());
      if (!(await hasDisk(pid))) continue;
      await checkDescriptors(pid);
      withDisk++;
    }
    assert.ok(withDisk > 0);
    if (AS_ROOT) await checkClosed(user);

    assert.equal((await user.run(["daemon", "stop"])).status, 0);
    assert.equal((await own.finished).status, 125);
    other.child.stdin?.end("still there\n");
    const finished = await other.finished;
    assert.equal(finished.status, 0, said(finished));
    assert.match(finished.stdout.toString(), /still there/);
  } finally {
    own.child.kill("SIGKILL");
    other.child.kill("SIGKILL");
  }
}

/** Nothing is left, and all that it made is its own. */
async function nothingLeft(user: Account): Promise<void> {
  await untilGone(() => user.processes());
  assert.deepEqual(await strangersIn(user.home, user), []);
  await assert.rejects(stat(user.paths.sockets), { code: "ENOENT" });
  for (const place of ["/tmp", "/var/tmp", "/dev/shm"]) assert.deepEqual(await ownedIn(place, user), [], place);
}

/** Nobody else gets at this user's sockets and files, whatever the mode of the home is, and this user not at root's. */
async function checkClosed(user: Account): Promise<void> {
  const { daemonSocket, launcherSocket, vms, control, state, cache } = user.paths;
  const ports = (await readdir(vms)).filter((name) => name.endsWith(".sock")).map((name) => join(vms, name));
  assert.ok(ports.length > 0);
  const sockets = [daemonSocket, launcherSocket, ...ports];
  for (const socket of sockets) assert.equal(await refused(user, NOBODY, "connect", socket), "EACCES", socket);
  for (const place of [control, vms]) assert.equal(await refused(user, NOBODY, "list", place), "EACCES", place);
  // Debian's homes are open to all by default; what pyro keeps there is not.
  await exec("chmod", ["755", user.home]);
  for (const place of [state, cache]) assert.equal(await refused(user, NOBODY, "list", place), "EACCES", place);
  assert.equal(await refused(user, NOBODY, "list", user.home), "");

  const roots = pathsFor({ PYRO_HOME: sharedHome() }, 0);
  for (const socket of [roots.daemonSocket, roots.launcherSocket])
    assert.equal(await refused(user, user.uid, "connect", socket), "EACCES", socket);
  // It can itself, of course: the refusals above are not of a broken probe.
  assert.equal(await refused(user, user.uid, "connect", daemonSocket), "");
  assert.equal(await refused(user, user.uid, "list", state), "");
}

/** Tries it as that user; empty when it went well, else the system's name of the error. */
async function refused(user: Account, uid: number, what: "connect" | "list", path: string): Promise<string> {
  const script = `
    const [what, path] = process.argv.slice(1);
    const say = ({ code }) => console.log(code);
    if (what === "list") require("node:fs/promises").readdir(path).catch(say);
    else require("node:net").connect(path, function () { this.destroy(); }).on("error", say);
  `;
  const become = [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
  const { stdout } = await exec("setpriv", [...become, user.node, "-e", script, what, path], { cwd: "/", env: {} });
  return stdout.trim();
}

async function hasDisk(pid: number): Promise<boolean> {
  const { stdout } = await exec("ls", ["-l", `/proc/${pid}/fd`]);
  return stdout.includes("disk.ext4");
}

/** What in a directory, at any depth, belongs to somebody else. */
async function strangersIn(directory: string, user: Account): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir(directory, { recursive: true })) {
    const { uid } = await lstat(join(directory, name));
    if (uid !== user.uid) found.push(`${name} of ${uid}`);
  }
  return found;
}

/** What directly in a directory is of this user's or one of its subordinate users', but for the place of its sockets. */
async function ownedIn(directory: string, user: Account): Promise<string[]> {
  if (!AS_ROOT) return [];
  const found: string[] = [];
  for (const name of await readdir(directory).catch(() => [])) {
    const owner = (await lstat(join(directory, name)).catch(() => undefined))?.uid;
    if (owner !== undefined && user.owns(owner) && name !== `pyro-${user.uid}`) found.push(name);
  }
  return found;
}

function said({ status, stdout, stderr }: Finished): string {
  return `status ${status}\n${stdout}${stderr}`;
}
