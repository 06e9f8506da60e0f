// The services of a workspace in a guest that the test holds: ready by looks, failed with reasons, stopped once, taken up by
// the next daemon whatever the one before was doing, and never held up by a guest that is silent or lies.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Service } from "../../../../src/engine/workspace/service.ts";
import { Services } from "../../../../src/engine/workspace/services.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { parseInput } from "../../../../src/operations/check.ts";
import { OPERATIONS, type ParsedInputOf } from "../../../../src/operations/table.ts";
import { FakeGuest, FakeHost } from "./fake-guest.ts";

let directory: string;
let guest: FakeGuest;
let host: FakeHost;
const made: Services[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-services-"));
  guest = new FakeGuest();
  host = new FakeHost(directory, guest);
});

afterEach(async () => {
  for (const services of made.splice(0)) await services.abandon(new PyroError("CANCELLED", "The test is over."));
  await rm(directory, { recursive: true, force: true });
});

const FAST = { ready_interval_ms: 10 };

function start(services: Services, name: string, more: object = {}, requestId?: string): Service {
  const input = { workspace_id: "ws_aaaaaaaaaa", service_name: name, command: ["serve"], ...more };
  return services.begin(parseInput(OPERATIONS["service.start"], input) as ParsedInputOf<"service.start">, requestId);
}

async function opened(machineId: string | null = host.machineId): Promise<Services> {
  const services = await Services.open(host);
  made.push(services);
  await services.adopt(machineId ?? undefined);
  return services;
}

/** A daemon is killed: what it had begun stays where it was. */
function forget(): void {
  made.splice(0);
  guest.killDaemon();
  host = new FakeHost(directory, guest);
}

function withCode(code: string, message = /./) {
  return (error: unknown) => error instanceof PyroError && error.code === code && message.test(error.message);
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, "it does not come");
    await sleep(5);
  }
}

test("without readiness it runs at once, keeps no workspace busy, and ends by itself or is stopped", async () => {
  const services = await opened();
  const web = start(services, "web", { env: { OWN: "1" }, cwd: "src" });
  await web.decided;
  const process = guest.process("svc_1");
  assert.deepEqual(process.env.sort(), ["FROM=workspace", "HOME=/root", "LANG=C", "OWN=1", "PATH=/bin"]);
  assert.deepEqual([process.wholeTree, process.noStdin, guest.probes.length], [true, true, 0]);
  assert.deepEqual([services.count, services.running, host.inside], [1, 1, 0]);
  const { state, cwd, readiness, published_ports, exit_code, ended_at } = web.describe();
  assert.deepEqual([state, cwd, readiness, published_ports], ["running", "/workspace/src", null, []]);
  assert.deepEqual([exit_code, ended_at], [null, null]);
  process.exit(0);
  await web.command.settled;
  assert.deepEqual([web.state, web.describe().exit_code, web.describe().stop_reason], ["exited", 0, null]);
  await web.stop("requested", 10);
  assert.deepEqual([web.state, guest.stops], ["exited", []]);

  const other = start(services, "other");
  await other.decided;
  await other.stop("requested", 5000);
  assert.deepEqual(
    [other.state, other.describe().stop_reason, other.describe().exit_code],
    ["stopped", "requested", 143],
  );
  assert.equal(guest.stops[0]?.id, "svc_2");
  assert.ok((guest.stops[0]?.graceMs ?? 0) > 4000);
  assert.deepEqual([services.count, services.running], [2, 0]);
});

test("it is starting, and its workspace in use, until a look finds it ready", async () => {
  const services = await opened();
  let looks = 0;
  guest.onProbe = async () => (++looks < 3 ? `not yet, ${looks}` : undefined);
  const told: string[] = [];
  const web = start(services, "web", { ready_command: "test -e x", env: { OWN: "1" }, cwd: "/srv", ...FAST });
  web.listen((event) => told.push(event.message));
  await until(() => looks === 1);
  assert.deepEqual([web.state, host.inside, services.running], ["starting", 1, 0]);
  await web.decided;
  assert.deepEqual([web.state, host.inside, looks], ["running", 0, 3]);
  assert.deepEqual(told, ["web is not ready: not yet, 1", "web is not ready: not yet, 2"]);
  const look = guest.probes[0]?.value as { argv: Uint8Array[]; env: Uint8Array[]; cwd: Uint8Array };
  assert.deepEqual(look.argv.map(String).length, 3);
  assert.equal(Buffer.from(look.cwd).toString(), "/srv");
  assert.ok(look.env.some((one) => Buffer.from(one).toString() === "OWN=1"));
  assert.equal(web.describe().readiness?.last_reason, null);
  await sleep(50);
  assert.equal(looks, 3, "nobody looks again");
});

test("what is looked at is what was asked for, whole", async () => {
  const services = await opened();
  const asked: [object, unknown][] = [
    [{ ready_file: "a/../b" }, { case: "file", value: Buffer.from("/workspace/b") }],
    [{ ready_file: "/run/x" }, { case: "file", value: Buffer.from("/run/x") }],
    [{ ready_tcp: "[::1]:80" }, { case: "tcp", value: "[::1]:80" }],
    [{ ready_http: "http://localhost:80/a b" }, "refused"],
    [{ ready_http: "https://LOCALHOST/a?b=%20#c" }, { case: "http", value: "https://localhost/a?b=%20#c" }],
  ];
  for (const [index, [more, look]] of asked.entries()) {
    if (look === "refused") {
      assert.throws(() => start(services, `s${index}`, more), withCode("INVALID_INPUT"));
      continue;
    }
    await start(services, `s${index}`, more).decided;
    assert.deepEqual(guest.probes.at(-1), look);
  }
});

test("what can never be ready is refused before anything starts", async () => {
  const services = await opened();
  for (const nonsense of [
    { ready_tcp: "localhost:0" },
    { ready_tcp: "localhost:65536" },
    { ready_tcp: "localhost" },
    { ready_tcp: "a b:1" },
    { ready_tcp: "a/b:1" },
    { ready_http: "http://localhost:0/" },
    { ready_http: "http://localhost:70000/" },
    { ready_http: "http://user@localhost/" },
    { ready_http: "http://" },
    { ready_http: "ftp://localhost/" },
    { ready_file: "" },
    { ready_file: "a\0b" },
    { ready_command: "a\0b" },
    { ready_file: "a", ready_tcp: "localhost:1" },
    { ready_timeout_seconds: 0 },
    { ready_timeout_seconds: 1e9 },
    { ready_interval_ms: 0 },
    { command: [] },
    { command: ["a\0b"] },
    { service_name: "../x" },
    { service_name: "" },
  ]) {
    assert.throws(() => start(services, "web", nonsense), withCode("INVALID_INPUT"), JSON.stringify(nonsense));
  }
  assert.deepEqual([guest.starts, await readdir(directory)], [[], []]);
});

test("one that ends before it is ready has failed, with why and the end of its log; its name is free", async () => {
  const services = await opened();
  guest.onProbe = async () => "connection refused";
  const web = start(services, "web", { ready_tcp: "localhost:1", ...FAST });
  await web.command.started;
  guest.process("svc_1").print(`${"x".repeat(3000)}\nlast words\n`);
  guest.process("svc_1").exit(3);
  await web.decided;
  const { state, stop_reason, exit_code, failure } = web.describe();
  assert.deepEqual([state, stop_reason, exit_code], ["failed", "ended_early", 3]);
  assert.deepEqual(failure, {
    message: "it exited with 3 before it was ready.",
    log_tail: "last words\n",
    log_tail_encoding: "utf-8",
  });
  assert.ok(withCode("SERVICE_FAILED", /web has failed: it exited with 3/)(web.failure()));
  await web.command.settled;
  guest.onProbe = async () => undefined;
  const anew = start(services, "web", { ready_tcp: "localhost:1", ...FAST });
  await anew.decided;
  assert.equal(services.get("web"), anew);
  await until(() => guest.removed.includes("svc_1"));
  for (let left = 100; left > 0 && (await readdir(directory)).length > 1; left--) await sleep(5);
  assert.deepEqual(await readdir(directory), ["00000002-web"]);
});

test("one that is not ready in time has failed: all of it is ended, and what it says meanwhile is told", async () => {
  const services = await opened();
  guest.onProbe = async () => "there is no x";
  guest.onStop = async (id) => guest.process(id).print("could not bind\n");
  const web = start(services, "web", { ready_file: "x", ready_timeout_seconds: 0.2, ...FAST });
  await web.decided;
  assert.equal(guest.stops.length, 1);
  assert.ok((guest.stops[0]?.graceMs ?? 0) > 1500);
  const { state, stop_reason, failure } = web.describe();
  assert.deepEqual([state, stop_reason], ["failed", "not_ready"]);
  assert.equal(failure?.message, "it was not ready within 0.2 s: there is no x.");
  assert.equal(failure?.log_tail, "could not bind\n");
});

test("a guest that does not answer a look, or answers nonsense, holds nobody up", async () => {
  const services = await opened();
  guest.onProbe = () => new Promise(() => {});
  const silent = start(services, "silent", { ready_tcp: "localhost:1", ready_timeout_seconds: 0.1, ...FAST });
  await silent.decided;
  assert.match(silent.describe().failure?.message ?? "", /not ready within 0\.1 s: The guest did not answer/);
  guest.onProbe = async () => "y".repeat(1 << 20);
  const wordy = start(services, "wordy", { ready_tcp: "localhost:1", ready_timeout_seconds: 0.1, ...FAST });
  await wordy.decided;
  assert.ok((wordy.describe().failure?.message.length ?? 0) < 1100);
  guest.onProbe = () => Promise.reject(new ConnectError("tcp: nonsense", Code.InvalidArgument));
  const refused = start(services, "refused", { ready_tcp: "localhost:1", ready_timeout_seconds: 0.1, ...FAST });
  await refused.decided;
  assert.match(refused.describe().failure?.message ?? "", /the guest cannot look: tcp: nonsense/);
  // One that says "ready" of what has ended.
  guest.onProbe = async () => {
    guest.process("svc_4").exit(1);
    await sleep(50);
    return undefined;
  };
  const liar = start(services, "liar", { ready_tcp: "localhost:1", ...FAST });
  await liar.decided;
  assert.equal(liar.state, "failed");
});

test("a guest whose clock is years ahead takes nobody's time, and one years behind gets one look", async () => {
  for (const [index, years] of [50, -50].entries()) {
    const services = await opened();
    guest = new FakeGuest();
    host.guest = guest;
    guest.clock = () => Date.now() + years * 31_536_000_000;
    guest.onProbe = async () => "not yet";
    const name = `web${index}`;
    start(services, name, { ready_tcp: "localhost:1", ready_timeout_seconds: 0.3, ...FAST });
    await until(() => guest.probes.length > 0);
    forget();
    const others = await opened();
    await others.get(name).decided;
    assert.deepEqual([others.get(name).state, others.get(name).describe().stop_reason], ["failed", "not_ready"]);
    await others.release();
    made.splice(0);
  }
});

test("a daemon that stops leaves one that is starting, and says so; a deletion says that", async () => {
  guest.onProbe = async () => "not yet";
  const services = await opened();
  const web = start(services, "web", { ready_tcp: "localhost:1", ...FAST });
  await until(() => guest.probes.length > 0);
  await services.release();
  made.splice(0);
  await web.decided;
  assert.ok(withCode("CANCELLED", /The daemon is stopping; the service web goes on/)(web.left));
  const others = await opened();
  guest.onProbe = async () => undefined;
  const later = others.get("web");
  await later.decided;
  assert.deepEqual([later.state, guest.starts], ["running", ["svc_1"]]);
  await others.abandon(new PyroError("WORKSPACE_NOT_FOUND", "It was deleted."));
  assert.equal(later.left?.code, "WORKSPACE_NOT_FOUND");
});

test("a guest that stands still for want of room takes nothing of a service's time", async () => {
  const services = await opened();
  let looks = 0;
  guest.onProbe = async () => {
    if (++looks === 1) guest.hold();
    return looks < 3 ? "not yet" : undefined;
  };
  const web = start(services, "web", { ready_tcp: "localhost:1", ready_timeout_seconds: 0.3, ...FAST });
  await until(() => looks === 1);
  await sleep(600);
  assert.equal(web.state, "starting");
  guest.unhold();
  await web.decided;
  assert.equal(web.state, "running");
});

test("a name that runs is taken; the same call is the same service, also when it has ended and to another daemon", async () => {
  const services = await opened();
  const one = start(services, "web", {}, "rq_aaaaaaaaaa");
  assert.throws(() => start(services, "web"), withCode("SERVICE_EXISTS", /is starting/));
  await one.decided;
  assert.throws(() => start(services, "web"), withCode("SERVICE_EXISTS", /is running/));
  assert.equal(start(services, "web", {}, "rq_aaaaaaaaaa"), one);
  guest.process("svc_1").exit(1);
  await one.command.settled;
  assert.equal(start(services, "web", {}, "rq_aaaaaaaaaa"), one);
  await services.release();
  made.splice(0);
  const others = await opened();
  const later = start(others, "web", {}, "rq_aaaaaaaaaa");
  await later.decided;
  assert.deepEqual([later.state, later.describe().exit_code], ["exited", 1]);
  assert.deepEqual(guest.starts, ["svc_1"]);
});

test("a start that the guest refuses never was, and what had the name before is back", async () => {
  const services = await opened();
  const before = start(services, "web");
  await before.decided;
  await before.stop("requested", 0);
  guest.refuse = new ConnectError("cwd: no such", Code.NotFound);
  const refused = start(services, "web", { cwd: "/nowhere" });
  await assert.rejects(refused.command.ended, withCode("CWD_NOT_FOUND"));
  await refused.decided;
  assert.equal(services.get("web"), before);
  const first = start(services, "fresh");
  await assert.rejects(first.command.ended, withCode("CWD_NOT_FOUND"));
  await first.decided;
  assert.throws(() => services.get("fresh"), withCode("SERVICE_NOT_FOUND"));
  await until(() => !refused.command.begun);
  await first.command.settled;
  assert.deepEqual(await readdir(directory), ["00000001-web"]);
});

test("stopped before its microVM is there, it never begins", async () => {
  const services = await opened();
  host.onEnter = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const web = start(services, "web");
  await sleep(20);
  await web.stop("requested", 0);
  await web.decided;
  await assert.rejects(web.command.ended, withCode("CANCELLED", /stopped before it began/));
  assert.equal(web.state, "stopped");
  assert.deepEqual([guest.starts, services.count], [[], 0]);
});

test("stopped while it is starting, it is stopped and has not failed", async () => {
  const services = await opened();
  guest.onProbe = async () => "not yet";
  const web = start(services, "web", { ready_tcp: "localhost:1", ...FAST });
  await until(() => guest.probes.length > 2);
  await Promise.all([web.stop("requested", 1000), web.stop("cancelled", 5000), web.decided]);
  const { state, stop_reason, failure } = web.describe();
  assert.deepEqual([state, stop_reason, failure], ["stopped", "requested", null]);
  const looked = guest.probes.length;
  await sleep(50);
  assert.equal(guest.probes.length, looked);
});

test("a stop that the guest does not carry out is told, and goes on where the next daemon begins", async () => {
  const services = await opened();
  const web = start(services, "web");
  await web.decided;
  guest.onStop = () => Promise.reject(new ConnectError("no", Code.Internal));
  await assert.rejects(web.stop("requested", 0), withCode("GUEST_UNRESPONSIVE"));
  guest.hold();
  await assert.rejects(web.stop("requested", 0), withCode("HOST_DISK_FULL"));
  guest.unhold();
  assert.equal(web.state, "running");
  guest.onStop = async () => {};
  forget();
  const others = await opened();
  const later = others.get("web");
  await later.decided;
  assert.deepEqual([later.state, later.describe().stop_reason], ["stopped", "requested"]);
});

test("a daemon that is killed while one starts: the next looks on, for what is left of the time", async () => {
  guest.onProbe = async () => "not yet";
  const first = start(
    await opened(),
    "web",
    { ready_tcp: "localhost:1", ready_timeout_seconds: 3, ...FAST },
    "rq_aaaaaaaaaa",
  );
  await until(() => guest.probes.length > 1);
  forget();
  const second = await opened();
  assert.equal(second.get("web").state, "starting");
  const again = start(second, "web", {}, "rq_aaaaaaaaaa");
  assert.equal(again, second.get("web"), "its client comes back");
  await until(() => host.inside === 1);
  guest.onProbe = async () => undefined;
  await again.decided;
  assert.deepEqual([again.state, host.inside], ["running", 0]);
  assert.deepEqual(guest.starts, ["svc_1"]);

  forget();
  const third = await opened();
  await third.get("web").decided;
  assert.equal(third.get("web").describe().ready_at, again.describe().ready_at);
  assert.equal(host.inside, 0);
  void first;
});

test("a daemon that is killed before it could end what had failed: the next ends it", async () => {
  guest.onProbe = async () => "not yet";
  guest.onStop = () => new Promise(() => {});
  start(await opened(), "web", { ready_tcp: "localhost:1", ready_timeout_seconds: 0.1, ...FAST });
  await until(() => guest.stops.length === 1);
  forget();
  guest.onStop = async () => {};
  const second = await opened();
  await second.get("web").decided;
  assert.deepEqual([second.get("web").state, second.get("web").over], ["failed", true]);
});

test("what ended while no daemon was there is known to the next, with its reason", async () => {
  guest.onProbe = async () => "not yet";
  const services = await opened();
  start(services, "early", { ready_tcp: "localhost:1", ...FAST });
  await start(services, "ready").decided;
  await until(() => guest.probes.length > 0);
  forget();
  guest.process("svc_1").print("bye\n");
  guest.process("svc_1").exit(4);
  guest.process("svc_2").exit(5);
  const others = await opened();
  await Promise.all([others.get("early").decided, others.get("ready").command.finished]);
  const { state, failure } = others.get("early").describe();
  assert.deepEqual(
    [state, failure?.message, failure?.log_tail],
    ["failed", "it exited with 4 before it was ready.", "bye\n"],
  );
  assert.deepEqual([others.get("ready").state, others.get("ready").describe().exit_code], ["exited", 5]);
});

test("a microVM that is lost, or stopped as idle, takes its services with it, and they say for what", async () => {
  const services = await opened();
  const lost = start(services, "lost");
  const idle = start(services, "idle");
  await Promise.all([lost.decided, idle.decided]);
  idle.noteWorkspaceStop("workspace_idle");
  guest.process("svc_2").exit(143, 15);
  guest.lose();
  await services.lose("The microVM ended: killed.");
  assert.deepEqual(
    [lost.state, lost.describe().stop_reason, lost.describe().exit_code],
    ["stopped", "workspace_lost", null],
  );
  assert.deepEqual([idle.state, idle.describe().stop_reason], ["stopped", "workspace_idle"]);
  await services.release();

  guest = new FakeGuest();
  forget();
  host.machineId = "vm_2";
  const others = await opened();
  assert.deepEqual(
    ["lost", "idle"].map((name) => others.get(name).describe().stop_reason),
    ["workspace_lost", "workspace_idle"],
  );
});

test("a host that was restarted: what ran is stopped, whatever it was about to be", async () => {
  guest.onProbe = async () => "not yet";
  const services = await opened();
  start(services, "starting", { ready_tcp: "localhost:1", ...FAST });
  await start(services, "running").decided;
  await until(() => guest.probes.length > 0);
  forget();
  const others = await opened(null);
  for (const name of ["starting", "running"]) {
    await others.get(name).decided;
    const { state, stop_reason, ended_at } = others.get(name).describe();
    assert.deepEqual([state, stop_reason, typeof ended_at], ["stopped", "workspace_lost", "string"]);
  }
});

test("records that are damaged: the service has failed, what ran of it is ended, and it can be started anew", async () => {
  for (const damage of ["{", "[]", '{"schema_version":2}', "missing"]) {
    const services = await opened();
    const sequence = guest.starts.length + 1;
    await start(services, "web").decided;
    forget();
    const path = join(directory, `${String(sequence).padStart(8, "0")}-web`, "service.json");
    if (damage === "missing") await rm(path);
    else await writeFile(path, damage);
    const others = await opened();
    const web = others.get("web");
    await web.decided;
    assert.deepEqual([web.state, web.describe().stop_reason, web.over], ["failed", "lost", true], damage);
    assert.match(web.describe().failure?.message ?? "", /its record is (damaged|missing)|newer version/);
    await web.command.settled;
    await others.release();
    made.splice(0);
  }
  // A command's record that is damaged has lost its service's end, and the guest is told to end what it has.
  const services = await opened();
  await start(services, "web").decided;
  const entry = (await readdir(directory)).sort().findLast((name) => name.endsWith("-web")) ?? "";
  forget();
  await writeFile(join(directory, entry, "command.json"), "{");
  await mkdir(join(directory, "00000099-never"));
  await writeFile(join(directory, "stray"), "");
  const others = await opened();
  await others.get("web").decided;
  assert.equal(others.get("web").state, "failed");
  assert.throws(() => others.get("never"), withCode("SERVICE_NOT_FOUND"));
  await others.sweep(guest.client, new AbortController().signal);
  assert.equal(guest.processes.size, 0);
  const anew = start(others, "web");
  await anew.decided;
  assert.equal(anew.state, "running");
  assert.equal(anew.command.processId, "svc_100", "no number is given twice");
});

test("a list goes by name and by pages, with near names for one that is not there", async () => {
  const services = await opened();
  for (const name of ["web", "db", "A", "cache"]) await start(services, name).decided;
  const first = services.list({ limit: 3 });
  assert.deepEqual([first.services.map((one) => one.service_name), first.next_cursor], [["A", "cache", "db"], "db"]);
  const second = services.list({ limit: 3, cursor: "db" });
  assert.deepEqual([second.services.map((one) => one.service_name), second.next_cursor], [["web"], null]);
  assert.throws(() => services.list({ limit: 3, cursor: "?" }), withCode("CURSOR_INVALID"));
  assert.throws(() => services.get("webb"), withCode("SERVICE_NOT_FOUND", /Did you mean web/));
});

test("a workspace that is deleted takes its services along, in whatever state", async () => {
  const services = await opened();
  guest.onProbe = async () => "not yet";
  const starting = start(services, "starting", { ready_tcp: "localhost:1", ...FAST });
  await start(services, "running").decided;
  await until(() => guest.probes.length > 0);
  await services.abandon(new PyroError("WORKSPACE_NOT_FOUND", "It was deleted."));
  await starting.decided;
  await rm(directory, { recursive: true });
  await sleep(50);
  await assert.rejects(readFile(directory), { code: "ENOENT" });
  assert.throws(() => start(services, "late"), withCode("WORKSPACE_NOT_FOUND"));
});
