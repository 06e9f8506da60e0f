// One run: a thawed guest, what it is given, the command, and what is brought home.
import { randomBytes } from "node:crypto";
import type { Cache } from "./cache.ts";
import { CHECKOUT, type Luggage, Unpacking } from "./carry.ts";
import { Refused } from "./channel.ts";
import { GuestLost, LabError, persistently, type Say } from "./failure.ts";
import type { Passage } from "./options.ts";
import { type Outer, thaw } from "./outer.ts";

const PREPARE_MS = 90_000;
/** As timeout(1) has it. */
const TIMED_OUT = 124;

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface Run {
  readonly command: readonly string[];
  readonly luggage: Luggage;
  readonly fetched: readonly Passage[];
  readonly asUser: boolean;
  readonly timeoutSeconds: number;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
}

/** Runs it and gives the exit status. A guest that hangs is given up for another. Errors: LabError, the signal's reason. */
export async function run(cache: Cache, outer: Outer, run: Run, say: Say, signal: AbortSignal): Promise<number> {
  const warn: Say = (message) => run.stderr.write(`lab: ${message}\n`);
  return await persistently(() => once(cache, outer, run, say, signal), warn, signal);
}

async function once(cache: Cache, outer: Outer, run: Run, say: Say, signal: AbortSignal): Promise<number> {
  const clock = stopwatch();
  signal.throwIfAborted();
  const machine = await thaw(outer, run.luggage.images, cache.directory);
  const { channel } = machine;
  const abort = (): void => channel.lose("the lab is told to stop");
  signal.addEventListener("abort", abort, { once: true });
  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    channel.lose(`the command took over ${run.timeoutSeconds} s`);
  }, run.timeoutSeconds * 1000);
  try {
    signal.throwIfAborted();
    say(`thawed in ${clock()}`);
    await channel.prepare(
      {
        hostname: "lab",
        machine_id: randomBytes(16).toString("hex"),
        unix_nanoseconds: Date.now() * 1e6,
        entropy: randomBytes(64).toString("base64"),
        places: run.luggage.places,
      },
      PREPARE_MS,
    );
    say(`prepared in ${clock()}`);
    const status = await channel.run(commandOf(run), {
      onStdout: (data) => run.stdout.write(data),
      onStderr: (data) => run.stderr.write(data),
    });
    say(`the command ended after ${clock()} with ${status}`);
    for (const { guest, host } of run.fetched) await fetch(channel, guest, host, run);
    return status;
  } catch (error) {
    if (late) {
      run.stderr.write(`lab: the command took over ${run.timeoutSeconds} s and was ended (--timeout)\n`);
      return TIMED_OUT;
    }
    if (error instanceof Refused) throw new LabError(`the outer guest: ${error.message}`);
    if (error instanceof GuestLost && machine.said !== "") throw new GuestLost(`${error.message}\n${machine.said}`);
    throw error;
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener("abort", abort);
    await machine.kill();
  }
}

function commandOf({ command, asUser, luggage }: Run) {
  const cwd = luggage.places.some(({ to }) => to === CHECKOUT) ? CHECKOUT : asUser ? "/home/pyro" : "/root";
  const account = asUser
    ? { HOME: "/home/pyro", USER: "pyro", LOGNAME: "pyro" }
    : { HOME: "/root", USER: "root", LOGNAME: "root" };
  const env = { PATH, ...account, SHELL: "/bin/bash", LANG: "C.UTF-8", TERM: "dumb", PYRO_LAB: "1" };
  const become = ["setpriv", "--reuid=1000", "--regid=1000", "--init-groups", "--"];
  return {
    argv: asUser ? [...become, ...command] : command,
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    cwd,
  };
}

async function fetch(channel: Awaited<ReturnType<typeof thaw>>["channel"], guest: string, host: string, run: Run) {
  const unpacking = await Unpacking.into(host);
  const status = await channel.fetch(guest, {
    onArchive: (data) => unpacking.write(data),
    onStderr: (data) => run.stderr.write(data),
  });
  await unpacking.finish();
  if (status !== 0)
    throw new LabError(`--out: ${guest} cannot be brought out of the guest (tar's status is ${status})`);
}

/** Tells how long it was since the last call. */
function stopwatch(): () => string {
  let last = performance.now();
  return () => {
    const now = performance.now();
    const passed = `${((now - last) / 1000).toFixed(2)} s`;
    last = now;
    return passed;
  };
}
