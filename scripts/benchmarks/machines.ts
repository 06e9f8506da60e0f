// What the daemon sees: boots, restores and calls into a guest, timed in its place. No daemon may run in this home.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { MicroVm } from "../../src/engine/microvm.ts";
import { HostProcess } from "../../src/engine/process.ts";
import type { ProcessSpec } from "../../src/engine/process-spec.ts";
import { Secrets } from "../../src/engine/secrets/secrets.ts";
import { Spool } from "../../src/engine/spool.ts";
import { newVmId } from "../../src/wire/ids.ts";
import { type Measured, openEngine, SHAPE } from "./engine.ts";
import { type Row, sample } from "./samples.ts";

/** Does in the guest what guestd does for a command, and nothing else: a cgroup, a process in it, its end. */
const GUEST_ALONE = `
import os, time
times = []
for round in range(24):
    started = time.perf_counter()
    group = "/sys/fs/cgroup/bench-%d" % round
    os.mkdir(group)
    child = os.posix_spawn("/bin/true", ["true"], {})
    try:
        open(group + "/cgroup.procs", "w").write(str(child))
    except OSError:
        pass
    os.waitpid(child, 0)
    os.rmdir(group)
    times.append((time.perf_counter() - started) * 1000)
print(" ".join("%.3f" % t for t in times[4:]))
`;

/** The row that others are measured against. */
export const LINK = "round trip of the guest link";

export class Machines {
  readonly #measured: Measured;

  private constructor(measured: Measured) {
    this.#measured = measured;
  }

  static async open(poolSize: number): Promise<Machines> {
    return new Machines(await openEngine(poolSize));
  }

  get how(): string {
    const { name, features } = this.#measured.prepared.driver;
    return `${name}, ${features.acceleration}`;
  }

  async close(): Promise<void> {
    await this.#measured.close();
  }

  /** The same guest without a template: from QEMU's start to guestd's answer, and the freeze. */
  async coldBoot(count: number): Promise<Row> {
    const samples = await sample(
      count,
      async () => (await this.#measured.prepared.templates.probe(this.#measured.prepared.spec)).bootMs,
      0,
    );
    return {
      name: "cold boot of the guest, once per size",
      command: "Templates.probe()",
      unit: "ms",
      samples,
      target: 10_000,
    };
  }

  /** A run as the engine does it, to its result. */
  async firstResult(count: number, pooled: boolean): Promise<Row> {
    const samples = await sample(
      count,
      async () => {
        await this.#settle();
        const started = performance.now();
        const claim = this.#measured.engine.runs.claim(
          {
            vmId: newVmId(),
            input: {
              environment: SHAPE.environment,
              command: ["true"],
              vcpu_count: SHAPE.vcpuCount,
              mem_mib: SHAPE.memMib,
              disk_mib: SHAPE.diskMib,
              network_policy: "off",
              tty: false,
              no_stdin: true,
            },
            terminal: undefined,
            stdinClosed: true,
          },
          { attached: true, mustExist: false },
        );
        await claim.run.ended;
        const took = performance.now() - started;
        claim.leave(true);
        await claim.run.gone;
        return took;
      },
      2,
    );
    const target = pooled ? 100 : 600;
    const name = pooled ? "first result, from the pool" : "restore to the first result, without a pool";
    return { name, command: "Runs.claim(true)", unit: "ms", samples, target };
  }

  /** Calls into one microVM that has run everything before. */
  async calls(count: number): Promise<Row[]> {
    return await this.#inOne(async (vm) => {
      const options = { timeoutMs: 30_000 };
      const hello = await sample(
        count * 5,
        async () => {
          await vm.guest.call((calls, call) => calls.hello({}, call), options);
          return undefined;
        },
        20,
      );
      const warm = await sample(
        count,
        async () => {
          await this.#exec(vm, ["true"]);
          return undefined;
        },
        5,
      );
      const alone = (await this.#exec(vm, ["python3", "-c", GUEST_ALONE])).trim().split(" ").map(Number);
      const guest = alone.sort((a, b) => a - b)[Math.floor(alone.length / 2)] ?? Number.NaN;
      return [
        {
          name: LINK,
          command: "a byte to the net port and back",
          unit: "ms",
          samples: await echoes(vm, count * 5),
          target: 3,
        },
        { name: "an empty call to guestd over it", command: "GuestClient.call(hello)", unit: "ms", samples: hello },
        {
          name: "`true` with a cgroup, in the guest alone",
          command: "os.posix_spawn in the guest's python3",
          unit: "ms",
          samples: alone,
        },
        {
          name: "`true` in a warm microVM, seen from the host",
          command: "HostProcess.start(true)",
          unit: "ms",
          samples: warm,
          target: guest + 15,
        },
      ];
    });
  }

  /** Waits until the pool is full and quiet; it is filled for whatever started last. */
  async #settle(): Promise<void> {
    this.#measured.engine.pool.begin()(this.#measured.prepared);
    const deadline = Date.now() + 120_000;
    while (this.#measured.engine.pool.ready < this.#measured.engine.pool.size) {
      if (Date.now() > deadline) throw new Error("the pool does not fill");
      await sleep(50);
    }
    await sleep(300);
  }

  async #exec(vm: MicroVm, argv: string[]): Promise<string> {
    const directory = join(this.#measured.paths.state, `bench-${randomUUID()}`);
    const spec: ProcessSpec = {
      processId: `bench-${randomUUID()}`,
      argv,
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      user: "",
      terminal: undefined,
      noStdin: true,
      timeoutMs: 60_000,
    };
    const spool = await Spool.open(directory);
    try {
      const process = await HostProcess.start(vm.guest, spec, spool, Secrets.none);
      const end = await process.ended;
      const out: Buffer[] = [];
      for await (const chunk of spool.read(0n, false)) out.push(chunk.data);
      if (end.exitCode !== 0) throw new Error(`${argv[0]} exited ${end.exitCode}: ${Buffer.concat(out)}`);
      return Buffer.concat(out).toString();
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #inOne<T>(work: (vm: MicroVm) => Promise<T>): Promise<T> {
    const diskPath = join(this.#measured.paths.state, `bench-${randomUUID()}.ext4`);
    const options = { machineId: newVmId(), diskPath, signal: AbortSignal.timeout(600_000) };
    const vm = await this.#measured.engine.starts.start(this.#measured.prepared, options, () => {});
    try {
      return await work(vm);
    } finally {
      await vm.kill();
      await rm(diskPath, { force: true });
    }
  }
}

/** guestd sends back what comes on this port. */
async function echoes(vm: MicroVm, count: number): Promise<readonly number[]> {
  const port = await vm.machine.openPort("net", AbortSignal.timeout(30_000));
  try {
    return await sample(
      count,
      async () => {
        const back = once(port, "data", { signal: AbortSignal.timeout(10_000) });
        port.write(Buffer.of(1));
        await back;
        return undefined;
      },
      20,
    );
  } finally {
    port.destroy();
  }
}
