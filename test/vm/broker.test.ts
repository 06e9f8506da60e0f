// Brokered secrets in a real microVM, against hosts in a network namespace of the test's: what the hosts see, what the guest
// sees, where the value is not, and what lives on when a part of it is changed or killed.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { OutputOf } from "../../src/operations/table.ts";
import { HOST, type Internet, NO_INTERNET, openInternet } from "../network/internet.ts";
import { type OwnHome, ownHome, ROOT, runOk, startProgram, VMM } from "./harness.ts";
import { type Workspace, Workspaces } from "./workspaces.ts";

const value = () => `tok/en+${randomBytes(16).toString("hex")}`;
const TOKEN = value();
const NEXT = value();
const NAMES = { "ok.example": [[HOST]], "other.example": [[HOST]], "a.wide.example": [[HOST]] };
const BROKERED = [
  ...["--network-policy", "egress", "--secret", "TOKEN", "--secret-for", "TOKEN=ok.example"],
  ...["--disk-mib", "512", "--mem-mib", "512", "--ttl-seconds", "0"],
];
const BLOCK = 1 << 20;
const CURL = "curl -sS --max-time 60";
const BEARER = '-H "Authorization: Bearer $TOKEN"';
const PLACEHOLDER = /^pyro-secret-[0-9a-f]{32}$/;

test("a brokered secret", { skip: NO_INTERNET, timeout: 600_000 }, async (context) => {
  await using internet = await openInternet(NAMES);
  await using home = await ownHome({ templates: true });
  const authorities = join(internet.directory, "ca.pem");
  const env = { ...home.env, ...internet.env, PYRO_BROKER_AUTHORITIES: authorities, TOKEN };
  const cli = new Workspaces(env);
  await makeRepository(internet.directory);
  await writeFile(join(internet.directory, "next"), NEXT);
  const workspace = await cli.create(BROKERED);
  const guest = new Guest(cli, workspace, internet);
  const placeholder = (await guest.sh('printf %s "$TOKEN"')).trim();

  await context.test("is a placeholder in the guest, and said to be for its hosts", async () => {
    assert.match(placeholder, PLACEHOLDER);
    assert.deepEqual(workspace.record.secrets, [{ name: "TOKEN", source: "env:TOKEN", hosts: ["ok.example"] }]);
    assert.equal(await guest.sh("cat /run/pyro/secrets/TOKEN"), placeholder);
    const named = ["exec", workspace.id, "--secret-env", "TOKEN=OTHER", "--", "sh", "-c", "echo $OTHER"];
    assert.equal((await guest.ask(named)).stdout, `${placeholder}\n`);
  });

  await context.test("curl and git: the host sees the value, the guest what it had before", async () => {
    const echoed = await guest.sh(`${CURL} ${BEARER} -D- https://ok.example/api/echo`);
    assert.deepEqual(await guest.saw("/api/echo"), [`Bearer ${TOKEN}`]);
    assert.match(echoed, new RegExp(`x-echo: Bearer ${placeholder}`, "i"));
    assert.equal(echoed.split(placeholder).length, 4, echoed);

    await guest.sh(
      "git clone -q https://user:$TOKEN@ok.example/locked/git/repo.git /tmp/repo && grep -q content /tmp/repo/file",
    );
    const basic = `Basic ${Buffer.from(`user:${TOKEN}`).toString("base64")}`;
    assert.ok((await guest.saw("/locked/git/")).includes(basic));
  });

  await context.test("another host, by whatever way, gets the placeholder", async () => {
    const own = "/run/pyro/trust/all.pem";
    const lines = [
      `cat /run/pyro/trust/bundle.pem - >${own} <<'END'\n${internet.authority}END`,
      `${CURL} -L --location-trusted ${BEARER} --cacert ${own} "https://ok.example/api/redirect?to=other.example" >/dev/null`,
      `${CURL} ${BEARER} http://ok.example/api/echo?plain >/dev/null`,
      `for host in other ok; do ${CURL} -o /dev/null -w '%{certs}' --cacert ${own} https://$host.example/ | grep Issuer; done`,
      `${CURL} ${BEARER} -H "Host: other.example" -o /dev/null -w '%{http_code}\\n' https://ok.example/api/echo?misdirected`,
      `${CURL} --pinnedpubkey sha256//AAAA https://ok.example/ 2>/dev/null || echo pinned`,
    ];
    const said = await guest.sh(lines.join("\n"));
    assert.match(said, /^Issuer:.*test CA\n(Issuer:.*pyro workspace authority.*\n)+421\npinned\n$/, said);
    assert.deepEqual(await guest.saw("/api/echo"), [`Bearer ${placeholder}`, `Bearer ${placeholder}`]);
    const codes = (await guest.log()).filter(({ code }) => code !== null);
    for (const code of ["secret_used", "host_mismatch", "tls_not_trusted"]) {
      const entry = codes.find((one) => one.code === code);
      assert.ok(entry?.name === "ok.example", `${code}: ${JSON.stringify(codes)}`);
      assert.equal(entry.secret_name, code === "secret_used" ? "TOKEN" : null);
    }
  });

  await context.test("its value is not in the guest's memory, nor anywhere else but where it is kept", async () => {
    const [vmm = 0] = await home.processes(VMM);
    assert.ok(await inMemory(vmm, placeholder), "the placeholder is not found in the memory");
    assert.equal(await inMemory(vmm, TOKEN.slice(4)), false);
    await nowhere(home, TOKEN.slice(4));
  });

  await context.test("a new value is used from the next request on", async () => {
    const set = ["secret", "set", workspace.id, "--secret"];
    await cli.ask([...set, `TOKEN=file:${join(internet.directory, "next")}`]);
    await guest.sh(`${CURL} ${BEARER} https://ok.example/api/echo`);
    assert.deepEqual(await guest.saw("/api/echo"), [`Bearer ${NEXT}`]);
    await cli.refused([...set, "OTHER=env:TOKEN"], "SECRET_UNKNOWN");
    await cli.refused([...set, "TOKEN=literal"], "SECRET_LITERAL");
  });

  await context.test("netd killed in mid-request: that fails, the next works", async () => {
    const began = "/workspace/began";
    const get = `${CURL} -N --keepalive-time 1 ${BEARER} https://ok.example/api/never >${began}; echo $? >/workspace/ended`;
    await cli.ask(["exec", workspace.id, "--detach", "--", "sh", "-c", get]);
    await guest.sh(`until [ -s ${began} ]; do sleep 0.1; done`);
    const [netd = 0] = await home.processes(/^\/netd$/);
    process.kill(netd, "SIGKILL");
    assert.notEqual(await guest.sh("until [ -s /workspace/ended ]; do sleep 0.1; done; cat /workspace/ended"), "0\n");
    await guest.sh(`${CURL} --retry 20 --retry-delay 1 --retry-all-errors ${BEARER} https://ok.example/api/echo`);
    assert.ok((await guest.saw("/api/echo")).includes(`Bearer ${NEXT}`));
  });

  await context.test("it survives a reset, a stop, a start and the daemon; a clone has none", async () => {
    process.kill(await home.pid(), "SIGKILL");
    await cli.ask(["reset", workspace.id]);
    await cli.ask(["stop", workspace.id]);
    await cli.ask(["start", workspace.id]);
    assert.equal(await guest.sh("printf %s $TOKEN"), placeholder);
    await guest.sh(`${CURL} ${BEARER} https://ok.example/api/echo`);
    assert.deepEqual(await guest.saw("/api/echo"), [`Bearer ${NEXT}`]);
    await nowhere(home, TOKEN.slice(4));
    await nowhere(home, NEXT.slice(4));
    await workspace.delete();
  });

  await context.test("what cannot be is refused", async () => {
    const create = ["create", "--secret", "TOKEN"];
    const egress = [...create, "--network-policy", "egress"];
    await cli.refused([...create, "--secret-for", "TOKEN=ok.example"], "SECRET_HOST_FORBIDDEN");
    const narrow = [...egress, "--allow-host", "other.example"];
    await cli.refused([...narrow, "--secret-for", "TOKEN=ok.example"], "SECRET_HOST_FORBIDDEN");
    await cli.refused([...egress, "--secret-for", "OTHER=ok.example"], "SECRET_UNKNOWN");
    for (const wrong of [
      "TOKEN",
      "TOKEN=",
      "TOKEN=*.example",
      "TOKEN=1.2.3.4",
      "TOKEN=https://ok.example",
      "TOKEN=a,,b",
    ]) {
      await cli.refused([...egress, "--secret-for", wrong], "INVALID_INPUT");
    }
    const twice = ["--secret-for", "TOKEN=ok.example", "--secret-for", "TOKEN=other.example"];
    await cli.refused([...egress, ...twice], "SECRET_INVALID");
  });

  await context.test("run has them too, and the example works", async () => {
    const words = ["--network-policy", "egress", "--secret", "TOKEN", "--secret-for", "TOKEN=ok.example", "--"];
    await runOk([...words, "sh", "-c", `${CURL} ${BEARER} https://ok.example/api/echo`], { env });
    assert.deepEqual(await guest.saw("/api/echo"), [`Bearer ${TOKEN}`]);
    const example = startProgram(process.execPath, [join(ROOT, "examples", "brokered.ts")], {
      env: { ...env, API_HOST: "ok.example" },
    });
    const { status, stdout, stderr } = await example.finished;
    assert.equal(status, 0, stderr.toString());
    assert.equal(stdout.toString(), "pyro-secret-...\nstatus 200\nTOKEN was sent to ok.example\n");
  });
});

/** A workspace, and what the hosts were asked by it. */
class Guest {
  readonly #cli: Workspaces;
  readonly #workspace: Workspace;
  readonly #internet: Internet;
  #seen = 0;

  constructor(cli: Workspaces, workspace: Workspace, internet: Internet) {
    this.#cli = cli;
    this.#workspace = workspace;
    this.#internet = internet;
  }

  async ask(args: readonly string[]): Promise<OutputOf<"workspace.exec">> {
    const { stdout, stderr, status } = await this.#cli.finish([...args.slice(0, 2), "--json", ...args.slice(2)]);
    assert.ok(!`${stdout}${stderr}`.includes(TOKEN.slice(4)), `the value was printed: ${stdout}`);
    assert.ok(stdout.length > 0, `${args.join(" ")}: status ${status}\n${stderr}`);
    return JSON.parse(stdout.toString()) as OutputOf<"workspace.exec">;
  }

  async try(line: string): Promise<OutputOf<"workspace.exec">> {
    return await this.ask(["exec", this.#workspace.id, "--", "sh", "-c", line]);
  }

  /** Runs a line of shell and returns what it printed; it must succeed. */
  async sh(line: string): Promise<string> {
    const { exit_code, stdout, stderr } = await this.try(line);
    assert.equal(exit_code, 0, `${line}\n${stdout}${stderr}`);
    return stdout;
  }

  async log(): Promise<OutputOf<"network.log">["entries"]> {
    const words = ["network", "log", this.#workspace.id, "--limit", "1000"];
    return (await this.#cli.ask<OutputOf<"network.log">>(words)).entries;
  }

  /** With which authorization the hosts were asked for what begins so, since this was last looked at. */
  async saw(path: string): Promise<string[]> {
    return (await this.#fresh(path)).map(({ authorization }) => authorization);
  }

  async #fresh(path: string) {
    const all = await this.#internet.asked();
    const fresh = all.slice(this.#seen);
    this.#seen = all.length;
    return fresh.filter((one) => one.path.startsWith(path));
  }
}

/** Whether a text stands in what a process has written to of its memory. */
async function inMemory(pid: number, text: string): Promise<boolean> {
  await using memory = await open(`/proc/${pid}/mem`);
  const block = Buffer.alloc(BLOCK + text.length);
  for (const line of (await readFile(`/proc/${pid}/maps`, "utf8")).split("\n")) {
    const [, from = "", to = ""] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
    const end = Number.parseInt(to, 16);
    for (let at = Number.parseInt(from, 16); at < end; at += BLOCK) {
      const length = Math.min(block.length, end - at);
      const read = await memory.read(block, 0, length, at).catch(() => undefined);
      if (read !== undefined && block.subarray(0, read.bytesRead).includes(text)) return true;
    }
  }
  return false;
}

/** Fails where a text is in what a home has on disk, or in the arguments of a process; but where secrets are kept. */
async function nowhere(home: OwnHome, text: string): Promise<void> {
  let seen = 0;
  for (const entry of await readdir(home.path, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const parts = path.slice(home.path.length).split("/");
    if (!entry.isFile() || parts[1] === "environments" || parts[1] === "cache") continue;
    if (parts.includes("secrets")) assert.equal((await stat(path)).mode & 0o777, 0o600);
    else {
      assert.ok(!(await readFile(path).catch(() => Buffer.alloc(0))).includes(text), `the value is in ${path}`);
      seen++;
    }
  }
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    assert.ok(!line.includes(text), `the value is in the arguments of ${pid}`);
  }
  assert.ok(seen > 5);
}

/** A repository with one file, as a host serves it. */
async function makeRepository(directory: string): Promise<void> {
  const script = [
    "mkdir git && git init -q work && cd work && echo content >file && git add file",
    "git -c user.name=x -c user.email=x@x commit -qm first && git clone -q --bare . ../git/repo.git",
  ].join(" && ");
  await promisify(execFile)("sh", ["-c", script], { cwd: directory });
}
