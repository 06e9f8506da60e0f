// passt, which is to QEMU what netd is to pyro: a user-space network that needs no root. The outer guest of the lab, on the
// same QEMU, reaches the same hosts through it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../../src/host/resources.ts";
import { Cache } from "../laboratory/cache.ts";
import { bootOn, outerGuest } from "../laboratory/outer.ts";

/** The addresses that the outer guest has from its own network. */
const GUEST = ["--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2", "--no-map-gw"] as const;
const ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
const START_MS = 10_000;
const ALL_MS = 900_000;

/** Runs a line of shell in a guest and gives what it printed. */
export type InGuest = (line: string) => Promise<string>;

/** Does something in a guest whose network is passt, in this network namespace; undefined where there is no passt. */
export async function withPasst<T>(namespace: string, work: (run: InGuest) => Promise<T>): Promise<T | undefined> {
  const program = await findProgram("passt");
  if (program === undefined) return undefined;
  const signal = AbortSignal.timeout(ALL_MS);
  const cache = await Cache.open();
  const outer = await outerGuest(cache, () => {}, signal);
  const directory = await mkdtemp(join(tmpdir(), "pyro-passt-"));
  const socket = join(directory, "socket");
  const own = [
    "--foreground",
    "--runas",
    "0",
    "--ipv4-only",
    "--interface",
    "cable",
    "--dns",
    "none",
    "--socket",
    socket,
  ];
  const passt = spawn("nsenter", [`--net=${namespace}`, program, ...own, ...GUEST], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  passt.stderr.on("data", (data: Buffer) => {
    said += data.toString();
  });
  const ended = new Promise<void>((resolve) => passt.once("close", () => resolve()));
  try {
    for (const end = Date.now() + START_MS; !existsSync(socket); await sleep(20)) {
      if (Date.now() > end || passt.exitCode !== null) throw new Error(`passt does not start: ${said}`);
    }
    const netdev = `stream,server=off,addr.type=unix,addr.path=${socket}`;
    const machine = await bootOn(netdev, outer, directory, signal);
    try {
      const run: InGuest = async (line) => {
        let out = "";
        const keep = (data: Buffer) => {
          out += data.toString();
        };
        const asked = { argv: ["sh", "-c", line], env: ENV, cwd: "/" };
        const status = await machine.channel.run(asked, { onStdout: keep, onStderr: keep });
        if (status !== 0) throw new Error(`${line}: status ${status}: ${out}`);
        return out;
      };
      // What passt itself would have the guest take over DHCP.
      await run("ip link set eth0 mtu 65520");
      return await work(run);
    } finally {
      await machine.kill();
    }
  } finally {
    passt.kill("SIGKILL");
    await ended;
    await rm(directory, { recursive: true });
  }
}
