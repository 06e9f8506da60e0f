// An internet of a test's own: two network namespaces with a cable between them and no way out. netd makes its
// connections in the one, the hosts of hosts.ts are in the other.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Plan } from "./hosts.ts";

/** As in hosts.ts, which is a program. */
const ASKED = "asked.jsonl";
const HERE = dirname(fileURLToPath(import.meta.url));
const run = promisify(execFile);

/** Of documentation: nothing in the world is reached by mistake. */
export const HOST = "203.0.113.10";
export const HOST6 = "2001:db8::10";
/** The address that netd's side, "this host", has itself. */
export const OWN = "203.0.113.1";
const OWN6 = "2001:db8::1";
/** One that counts as private, and where something listens all the same. */
export const PRIVATE = "10.99.0.10";

/** Why there cannot be one here; false where there can. */
export const NO_INTERNET = process.getuid?.() === 0 ? false : "network namespaces need root";

export interface Internet extends AsyncDisposable {
  /** For the daemon: its microVMs reach this internet and no other. */
  readonly env: NodeJS.ProcessEnv;
  /** What the hosts serve as files. */
  readonly directory: string;
  /** Of the authority that signed the hosts' certificate, PEM. */
  readonly authority: string;
  /** Why it has no IPv6 here; false where it has. */
  readonly noIpv6: false | string;
  /** The requests that came so far. */
  asked(): Promise<readonly Asked[]>;
}

export interface Asked {
  readonly host: string;
  /** With the query. */
  readonly path: string;
  readonly authorization: string;
}

export async function openInternet(names: Plan["names"]): Promise<Internet> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-internet-"));
  const [here, there] = [`pyro-h-${process.pid}`, `pyro-t-${process.pid}`];
  const ip = async (...args: string[]) => await run("ip", args);
  const remove = async () => {
    for (const name of [here, there]) await ip("netns", "delete", name).catch(() => {});
    await rm(directory, { recursive: true, force: true });
  };
  try {
    for (const name of [here, there]) {
      await ip("netns", "add", name);
      await ip("-n", name, "link", "set", "lo", "up");
    }
    await ip("link", "add", "cable", "netns", here, "type", "veth", "peer", "name", "cable", "netns", there);
    let noIpv6: false | string = false;
    for (const [name, addresses, address6] of [
      [here, [`${OWN}/24`, "10.99.0.1/24"], OWN6],
      [there, [`${HOST}/24`, `${PRIVATE}/24`], HOST6],
    ] as const) {
      for (const address of addresses) await ip("-n", name, "addr", "add", address, "dev", "cable");
      await ip("-n", name, "link", "set", "cable", "up");
      // At once, without asking the other end whether it has it.
      await ip("-n", name, "addr", "add", `${address6}/64`, "dev", "cable", "nodad").catch(() => {
        noIpv6 = "network namespaces have no IPv6 here";
      });
    }
    const { key, certificate, authority } = await certify(directory, [
      "ok.example",
      "other.example",
      "packages.example",
      "tokens.example",
    ]);
    const addresses = noIpv6 === false ? [HOST, HOST6] : [HOST];
    const hosts = await startHosts(directory, { addresses, names, key, certificate }, ["ip", "netns", "exec", there]);
    return {
      env: {
        PYRO_NETWORK_NAMESPACE: `/run/netns/${here}`,
        PYRO_NAME_SERVERS: HOST,
        PYRO_PUBLIC_RANGES: "203.0.113.0/24,2001:db8::/64",
      },
      directory,
      authority,
      noIpv6,
      asked: async () => {
        const lines = await readFile(join(directory, ASKED), "utf8").catch(() => "");
        return lines.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Asked]));
      },
      [Symbol.asyncDispose]: async () => {
        await hosts[Symbol.asyncDispose]();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Starts the hosts, with a command line before their own; resolves when they listen. */
export async function startHosts(
  directory: string,
  plan: Plan,
  before: readonly string[] = [],
): Promise<AsyncDisposable> {
  const words = [...before, process.execPath, "--no-warnings", join(HERE, "hosts.ts"), directory];
  const child = spawn(words[0] ?? "", words.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(JSON.stringify(plan));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("close", (status) => reject(new Error(`the hosts ended with status ${status}`)));
  });
  return {
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** A certificate for these names by an authority made for it. */
async function certify(directory: string, names: readonly string[]) {
  const place = (name: string) => join(directory, name);
  const openssl = async (...args: string[]) => await run("openssl", args);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl("req", "-x509", ...key, "-keyout", place("ca.key"), "-out", place("ca.pem"), "-subj", "/CN=test CA");
  const subject = `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}`;
  const signed = ["-CA", place("ca.pem"), "-CAkey", place("ca.key")];
  const about = ["-subj", "/CN=hosts", "-addext", subject];
  await openssl("req", "-x509", ...key, "-keyout", place("host.key"), "-out", place("host.pem"), ...about, ...signed);
  const [hostKey, certificate, authority] = await Promise.all(
    ["host.key", "host.pem", "ca.pem"].map((name) => readFile(place(name), "utf8")),
  );
  return { key: hostKey ?? "", certificate: certificate ?? "", authority: authority ?? "" };
}
