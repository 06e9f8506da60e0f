// From a VMM's start to the guest's first reply: of a boot, and of a template that is restored.
import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { GuestClient } from "../../src/guest/client.ts";
import { newVmId } from "../../src/wire/ids.ts";
import type { Measured } from "./engine.ts";
import { median, type Row, sample } from "./samples.ts";

const REPLY_MS = 120_000;
/** How many times quicker a restore is to be. */
const QUICKER = 3;

/** No daemon may run in this home. */
export async function restores(measured: Measured, boots: number, count: number): Promise<Row[]> {
  const cold = await sample(boots, () => coldReply(measured), 0);
  const restored = await sample(count, () => restoredReply(measured));
  return [
    { name: "a boot, to the guest's first reply", command: "Driver.prepare(), hello", unit: "ms", samples: cold },
    {
      name: "a restore, to the guest's first reply",
      command: "Driver.restore(), hello",
      unit: "ms",
      samples: restored,
      target: median(cold) / QUICKER,
    },
  ];
}

async function coldReply({ paths, prepared: { driver, spec } }: Measured): Promise<number> {
  const directory = join(paths.templates, `bench-${randomUUID()}`);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const key = `probe-${randomUUID()}`;
  let took = Number.NaN;
  try {
    const started = performance.now();
    await driver.prepare(key, spec, directory, async (control) => {
      await hello(async () => control);
      took = performance.now() - started;
    });
    return took;
  } finally {
    await driver.discard(key);
    await rm(directory, { recursive: true, force: true });
  }
}

async function restoredReply({ prepared: { driver, spec, template } }: Measured): Promise<number> {
  const started = performance.now();
  const machine = await driver.restore(template, spec, newVmId(), { drives: {}, ephemeral: true });
  try {
    await hello((signal) => machine.openPort("control", signal));
    return performance.now() - started;
  } finally {
    await machine.kill();
  }
}

async function hello(open: (signal: AbortSignal) => Promise<Duplex>): Promise<void> {
  const guest = new GuestClient(open);
  try {
    await guest.call((calls, options) => calls.hello({}, options), { timeoutMs: REPLY_MS });
  } finally {
    guest.close();
  }
}
