// The network in real microVMs, against hosts in a network namespace of the test's: what is reached and what is not, what
// is said about it, and what lives on when one of its parts is killed.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { OutputOf } from "../../src/operations/table.ts";
import { askPage, noBrowser } from "../network/browser.ts";
import { ANSWER, ANSWERED, DEV_SERVER, TITLE } from "../network/dev-server.ts";
import { HOST, HOST6, type Internet, NO_INTERNET, OWN, openInternet, PRIVATE } from "../network/internet.ts";
import { countFrom } from "../seed.ts";
import { type OwnHome, ownHome, pyro, runOk } from "./harness.ts";
import { type Workspace, Workspaces } from "./workspaces.ts";

/** More of both in `make soak`. */
const CONNECTIONS = countFrom("PYRO_NETWORK_CONNECTIONS", 150);
const DOWNLOAD_MIB = countFrom("PYRO_NETWORK_DOWNLOAD_MIB", 32);
/** What netd may take while much passes through it, MiB. */
const MOST_MIB = 300;
const PATIENCE_MS = 60_000;

const NAMES = {
  "ok.example": [[HOST]],
  "other.example": [[HOST]],
  "six.example": [[HOST6]],
  "a.wide.example": [[HOST]],
  "private.example": [[PRIVATE]],
  "loopback.example": [["127.0.0.1"]],
  "own.example": [[OWN]],
  "metadata.example": [["169.254.169.254"]],
  "rebinding.example": [[HOST], [PRIVATE]],
};

type Entry = OutputOf<"network.log">["entries"][number];

class Ground {
  readonly home: OwnHome;
  readonly workspaces: Workspaces;
  readonly env: NodeJS.ProcessEnv;

  constructor(home: OwnHome, internet: Internet) {
    this.home = home;
    this.env = { ...home.env, ...internet.env };
    this.workspaces = new Workspaces(this.env);
  }

  /** Runs a line of shell and returns what it printed; it must succeed. */
  async sh(workspace: Workspace, line: string): Promise<string> {
    const { exit_code, stdout, stderr } = await this.try(workspace, line);
    assert.equal(exit_code, 0, `${line}\n${stdout}${stderr}`);
    return stdout;
  }

  async try(workspace: Workspace, line: string) {
    const { status, stdout, stderr } = await pyro(
      ["workspace", "exec", workspace.id, "--json", "--", "sh", "-c", line],
      {
        env: this.env,
      },
    );
    try {
      return JSON.parse(stdout.toString()) as OutputOf<"workspace.exec">;
    } catch {
      throw new Error(`${line}: status ${status}\n${stdout}${stderr}`);
    }
  }

  async log(workspace: Workspace): Promise<Entry[]> {
    const page = await this.workspaces.ask<OutputOf<"network.log">>([
      "network",
      "log",
      workspace.id,
      "--limit",
      "1000",
    ]);
    return page.entries;
  }

  /** Waits for a decision like this. */
  async decided(workspace: Workspace, what: Partial<Entry>, reason: RegExp): Promise<Entry> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const entries = await this.log(workspace);
      const found = entries.find(
        (entry) =>
          Object.entries(what).every(([key, value]) => entry[key as keyof Entry] === value) &&
          reason.test(entry.reason),
      );
      if (found !== undefined) return found;
      assert.ok(
        Date.now() < deadline,
        `${JSON.stringify(what)} ${reason} is not in ${JSON.stringify(entries, null, 1)}`,
      );
      await sleep(200);
    }
  }

  async netd(): Promise<number> {
    const [pid] = await this.home.processes(/^\/netd$/);
    assert.ok(pid !== undefined, "no netd runs");
    return pid;
  }
}

const options = { skip: NO_INTERNET, timeout: 600_000 };

test("a network by policy", options, async (context) => {
  await using internet = await openInternet(NAMES);
  await using home = await ownHome({ templates: true });
  const ground = new Ground(home, internet);
  await makeRepository(internet.directory);

  await context.test("off: no device but lo, and hosts to allow are refused", async () => {
    assert.equal((await runOk(["--", "ls", "/sys/class/net"], { env: ground.env })).trim(), "lo");
    const { status, stderr } = await pyro(["run", "--allow-host", "ok.example", "--", "true"], { env: ground.env });
    assert.notEqual(status, 0);
    assert.match(stderr.toString(), /network-policy egress/);
    const wrong = await pyro(["run", "--network-policy", "all", "--", "true"], { env: ground.env });
    assert.notEqual(wrong.status, 0);
  });

  await context.test("run: a network for one command", async () => {
    const curl = "curl -sS --max-time 60 http://ok.example/";
    const said = await runOk(["--network-policy", "egress", "--", "sh", "-c", curl], { env: ground.env });
    assert.equal(said, "hello from ok.example\n");
  });

  const egress = await ground.workspaces.create(["--network-policy", "egress"]);
  assert.equal(egress.record.network_policy, "egress");

  await context.test("egress: HTTP, HTTPS and git", async () => {
    assert.equal(await ground.sh(egress, "curl -sS --max-time 60 http://ok.example/"), "hello from ok.example\n");
    await ground.sh(egress, `cat >/tmp/ca.pem <<'END'\n${internet.authority}END`);
    const secure = await ground.sh(egress, "curl -sS --max-time 60 --cacert /tmp/ca.pem https://other.example/");
    assert.equal(secure, "hello from other.example\n");
    await ground.sh(egress, "git clone -q http://ok.example/git/repo.git /tmp/repo && grep -q content /tmp/repo/file");
  });

  await context.test("egress: a host that has only IPv6", { skip: internet.noIpv6 }, async () => {
    assert.equal(await ground.sh(egress, "curl -sS --max-time 60 http://six.example/"), "hello from six.example\n");
    await ground.decided(egress, { verdict: "allowed", protocol: "tcp", address: HOST6, port: 80 }, /public/);
  });

  await context.test("egress: what is not public is refused, and it is said why", async () => {
    const targets: [string, string, RegExp][] = [
      [OWN, "8080", /address of this host/],
      ["10.213.0.1", "8080", /private/],
      ["10.213.0.9", "8080", /private/],
      [PRIVATE, "7", /private/],
      ["192.168.1.1", "22", /private/],
      ["169.254.169.254", "80", /metadata/],
      ["100.64.0.1", "8080", /carrier/],
      ["fd00::1", "8080", /private/],
      ["fd00:ec2::254", "80", /metadata/],
      ["64:ff9b::7f00:1", "8080", /loopback/],
    ];
    const lines = targets.map(([address, port]) => {
      const host = address.includes(":") ? `[${address}]` : address;
      return `curl -sS --max-time 60 -o /dev/null -w '${address} %{http_code}\\n' http://${host}:${port}/`;
    });
    const said = await ground.try(egress, `${lines.join("\n")}\ntrue`);
    for (const [address, port, reason] of targets) {
      assert.match(said.stdout, new RegExp(`^${address.replaceAll(".", "\\.")} (000|403)$`, "m"), said.stderr);
      await ground.decided(egress, { verdict: "denied", address, port: Number(port) }, reason);
    }
    for (const name of ["private.example", "loopback.example", "own.example", "metadata.example"]) {
      const { exit_code } = await ground.try(egress, `curl -sS --max-time 60 http://${name}:8080/`);
      assert.notEqual(exit_code, 0, name);
      await ground.decided(egress, { verdict: "denied", protocol: "dns", name }, /resolves to/);
    }
    const told = await ground.sh(egress, "curl -s --max-time 60 http://169.254.169.254/latest/meta-data/");
    assert.match(told, /network policy of this workspace denies/);
  });

  await context.test("egress: a name that is private at the second answer", async () => {
    const curl = "curl -4 -sS --max-time 60 http://rebinding.example/";
    assert.equal(await ground.sh(egress, curl), "hello from rebinding.example\n");
    assert.notEqual((await ground.try(egress, curl)).exit_code, 0);
    await ground.decided(egress, { verdict: "denied", protocol: "dns", name: "rebinding.example" }, /resolves to/);
  });

  await context.test(`${CONNECTIONS} connections at once, and ${DOWNLOAD_MIB} MiB`, async () => {
    const script = [
      "import socket",
      `s = [socket.create_connection(('${HOST}', 7), 120) for i in range(${CONNECTIONS})]`,
      "for i, c in enumerate(s): c.sendall(b'%05d' % i)",
      "def get(c):",
      "  d = b''",
      "  while len(d) < 5: d += c.recv(5 - len(d))",
      "  return int(d)",
      `assert [get(c) for c in s] == list(range(${CONNECTIONS}))`,
    ].join("\n");
    await ground.sh(egress, `python3 -c "${script}"`);
    const bytes = DOWNLOAD_MIB * 2 ** 20;
    assert.equal(await ground.sh(egress, `curl -sS http://ok.example/bytes/${bytes} | wc -c`), `${bytes}\n`);
    const peak = /^VmHWM:\s+(\d+) kB/m.exec(await readFile(`/proc/${await ground.netd()}/status`, "utf8"))?.[1];
    const mib = Number(peak) / 1024;
    context.diagnostic(`netd took ${mib.toFixed(0)} MiB`);
    assert.ok(mib < MOST_MIB, `netd took ${mib} MiB`);
  });

  await context.test("netd is killed: another takes its place", async () => {
    const before = await ground.netd();
    process.kill(before, "SIGKILL");
    const curl = "curl -sS --retry 20 --retry-delay 1 --retry-all-errors --max-time 60 http://ok.example/";
    assert.equal(await ground.sh(egress, curl), "hello from ok.example\n");
    assert.notEqual(await ground.netd(), before);
  });

  await context.test("the daemon is killed: what is under way goes on", async () => {
    const get = `curl -sS --limit-rate 1M -o /workspace/got http://ok.example/bytes/${8 << 20}`;
    await ground.workspaces.ask(["exec", egress.id, "--detach", "--", "sh", "-c", `${get}; echo $? >/workspace/ended`]);
    await ground.sh(egress, "until [ -s /workspace/got ]; do sleep 0.2; done");
    const netd = await ground.netd();
    process.kill(await home.pid(), "SIGKILL");
    await ground.sh(egress, "until [ -s /workspace/ended ]; do sleep 0.5; done");
    assert.equal(await ground.sh(egress, "cat /workspace/ended; stat -c %s /workspace/got"), `0\n${8 << 20}\n`);
    assert.equal(await ground.netd(), netd);
    const { entries } = await ground.workspaces.ask<OutputOf<"network.log">>(["network", "log", egress.id]);
    assert.ok(entries.length > 0);
  });
  await ground.workspaces.delete(egress.id);

  await context.test("an allow-list: by name, by what a connection asks for, and changed while it runs", async () => {
    const listed = await ground.workspaces.create([
      ...["--network-policy", "egress", "--allow-host", "ok.example", "--allow-host", "*.wide.example"],
    ]);
    await ground.sh(listed, `cat >/tmp/ca.pem <<'END'\n${internet.authority}END`);
    const curl = "curl -sS --max-time 60 --cacert /tmp/ca.pem";
    assert.match(await ground.sh(listed, `${curl} http://ok.example/`), /hello/);
    assert.match(await ground.sh(listed, `${curl} https://ok.example/`), /hello/);
    assert.match(await ground.sh(listed, `${curl} http://a.wide.example/`), /hello/);
    assert.notEqual((await ground.try(listed, `${curl} http://other.example/`)).exit_code, 0);
    await ground.decided(listed, { protocol: "dns", name: "other.example", verdict: "denied" }, /allow-list/);
    const resolve = `--resolve other.example:80:${HOST} --resolve other.example:443:${HOST}`;
    assert.match(await ground.sh(listed, `${curl} ${resolve} http://other.example/`), /allow-list/);
    assert.notEqual((await ground.try(listed, `${curl} ${resolve} https://other.example/`)).exit_code, 0);
    await ground.decided(listed, { name: "other.example", port: 443, verdict: "denied" }, /asks for a name/);
    assert.match(await ground.sh(listed, `${curl} http://${HOST}/`), /denies/);

    const get = `curl -sS --limit-rate 200k -o /workspace/part http://ok.example/bytes/${64 << 20}`;
    await ground.workspaces.ask(["exec", listed.id, "--detach", "--", "sh", "-c", `${get}; echo $? >/workspace/ended`]);
    await ground.sh(listed, "until [ -s /workspace/part ]; do sleep 0.2; done");
    await ground.workspaces.ask(["network", "set", listed.id, "--allow-host", "*.wide.example"]);
    assert.notEqual(
      await ground.sh(listed, "until [ -s /workspace/ended ]; do sleep 0.2; done; cat /workspace/ended"),
      "0\n",
    );
    await ground.decided(listed, { name: "ok.example", verdict: "denied" }, /^cut: /);
    assert.notEqual((await ground.try(listed, `${curl} http://ok.example/`)).exit_code, 0);
    assert.match(await ground.sh(listed, `${curl} http://a.wide.example/`), /hello/);
    assert.deepEqual((await ground.workspaces.status(listed.id)).allow_hosts, ["*.wide.example"]);

    const silent = await ground.workspaces.create();
    await ground.workspaces.refused(["network", "set", silent.id, "--allow-host", "ok.example"], "NETWORK_OFF");
    await ground.workspaces.refused(["network", "set", listed.id, "--allow-host", "http://x"], "INVALID_INPUT");
    await ground.workspaces.deleteAll();
  });
});

test("published ports", options, async (context) => {
  await using internet = await openInternet(NAMES);
  await using home = await ownHome({ templates: true });
  const ground = new Ground(home, internet);
  const inside = `--net=${internet.env.PYRO_NETWORK_NAMESPACE}`;
  /** What a program of the host reads from a port of its own; netd's host is the namespace. */
  const reach = async (host: string, port: number, seconds = 0): Promise<string> => {
    const script = `exec 3<>/dev/tcp/${host}/${port} && sleep ${seconds} && head -c 5 <&3`;
    return (await promisify(execFile)("nsenter", [inside, "bash", "-c", script])).stdout;
  };
  const server = [
    "import socket",
    "s = socket.create_server(('', 8000))",
    "while True:",
    "  c = s.accept()[0]",
    "  c.sendall(b'hello')",
    "  c.close()",
  ].join("\n");
  const command = ["--", "python3", "-c", server];
  const policy = ["--network-policy", "egress+published-ports"];
  type Service = OutputOf<"service.status">;

  const workspace = await ground.workspaces.create(policy);
  const start = ["service", "start", workspace.id];
  const web = await ground.workspaces.ask<Service>([
    ...[...start, "web", "--ready-tcp", "localhost:8000", "--publish", "8000", ...command],
  ]);
  const [published] = web.published_ports;
  assert.ok(
    published !== undefined && published.guest_port === 8000 && published.host_port >= 1024,
    JSON.stringify(web),
  );
  const { host_port } = published;

  await context.test("is reached at both addresses", async () => {
    assert.equal(await reach("127.0.0.1", host_port), "hello");
    assert.equal(await reach("::1", host_port), "hello");
  });

  await context.test(
    "a dev server, its page and WebSocket opened in a browser",
    { skip: await noBrowser() },
    async () => {
      const dev = ["dev", "--ready-tcp", "localhost:8001", "--publish", "8001", "--", "python3", "-c", DEV_SERVER];
      const { published_ports } = await ground.workspaces.ask<Service>([...start, ...dev]);
      const url = `http://localhost:${published_ports[0]?.host_port}/`;
      const said = await askPage(url, `${ANSWERED}.then((answer) => [document.title, answer])`, ["nsenter", inside]);
      assert.deepEqual(said, [TITLE, ANSWER]);
      await ground.workspaces.ask(["service", "stop", workspace.id, "dev"]);
    },
  );

  await context.test("one that is taken is refused, and nothing is left of the service", async () => {
    const again = [...start, "other", "--publish", `${host_port}:8000`, "--", "sleep", "600"];
    await ground.workspaces.refused(again, "PORT_TAKEN");
    await ground.workspaces.refused(["service", "status", workspace.id, "other"], "SERVICE_NOT_FOUND");
    const neighbour = await ground.workspaces.create(policy);
    await ground.workspaces.refused(
      ["service", "start", neighbour.id, "x", "--publish", `${host_port}:1`, "--", "sleep", "600"],
      "PORT_TAKEN",
    );
    await neighbour.delete();
    for (const wrong of ["80:8000", "0", "70000", "x"]) {
      await ground.workspaces.refused([...start, "other", "--publish", wrong, "--", "true"], "INVALID_INPUT");
    }
    const egress = await ground.workspaces.create(["--network-policy", "egress"]);
    const forbidden = ["service", "start", egress.id, "x", "--publish", "8000", "--", "true"];
    await ground.workspaces.refused(forbidden, "POLICY_FORBIDDEN");
    await egress.delete();
  });

  await context.test("it outlives the daemon, and netd", async () => {
    process.kill(await home.pid(), "SIGKILL");
    assert.equal(await reach("127.0.0.1", host_port), "hello");
    const status = await ground.workspaces.ask<Service>(["service", "status", workspace.id, "web"]);
    assert.deepEqual(status.published_ports, web.published_ports);
    process.kill(await ground.netd(), "SIGKILL");
    const deadline = Date.now() + PATIENCE_MS;
    while ((await reach("127.0.0.1", host_port).catch(() => "")) !== "hello") assert.ok(Date.now() < deadline);
  });

  await context.test("it is closed when the service stops, or never becomes ready", async () => {
    const closed = async (port: number) => {
      const deadline = Date.now() + PATIENCE_MS;
      while (await reach("127.0.0.1", port).then(Boolean, () => false)) assert.ok(Date.now() < deadline);
    };
    const stopped = await ground.workspaces.ask<Service>(["service", "stop", workspace.id, "web"]);
    assert.deepEqual(stopped.published_ports, []);
    await closed(host_port);
    const failing = ["--ready-tcp", "localhost:1", "--ready-timeout-seconds", "1", "--publish", `${host_port}:8000`];
    await ground.workspaces.refused([...start, "web", ...failing, ...command], "SERVICE_FAILED");
    await closed(host_port);
    await workspace.delete();
  });

  await context.test("a connection keeps its workspace from being idle", async () => {
    const brief = await ground.workspaces.create([...policy, "--ttl-seconds", "3"]);
    const service = ["service", "start", brief.id, "web", "--ready-tcp", "localhost:8000", "--publish", "8000"];
    const slow = server.replace("c.sendall", "__import__('time').sleep(9); c.sendall");
    const { published_ports } = await ground.workspaces.ask<Service>([...service, "--", "python3", "-c", slow]);
    assert.equal(await reach("127.0.0.1", published_ports[0]?.host_port ?? 0), "hello");
    await brief.untilState("stopped");
    await brief.delete();
  });
});

/** A repository with one file, as a host serves it. */
async function makeRepository(directory: string): Promise<void> {
  const script = [
    "git init -q work",
    "cd work",
    "echo content >file",
    "git add file",
    "git -c user.name=x -c user.email=x@x commit -qm first",
    "git clone -q --bare . ../git/repo.git",
  ].join(" && ");
  await promisify(execFile)("sh", ["-c", `mkdir git && ${script}`], { cwd: join(directory) });
}
