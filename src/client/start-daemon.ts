// Starts the daemon as a session of its own and waits until it answers. Two clients may do so at once: the daemon
// takes a lock, the one that does not get it exits, and both clients connect to the other.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PyroError } from "../errors/error.ts";
import { log } from "../log/log.ts";
import { connectOnce, isAbsent } from "./socket.ts";
import { daemonEnvironment, type Where } from "./where.ts";

const START_MS = 30_000;
/** A daemon that ended with an error may have a rival that is still coming up. */
const RIVAL_MS = 1500;
/** How long after a start that found the lock taken the next one follows. */
const LEAVING_MS = 200;
const POLL_MS = 25;
const TAIL_BYTES = 2000;

interface Exit {
  readonly at: number;
  readonly how: string;
  readonly bad: boolean;
}

/** Errors: DAEMON_START_FAILED with the end of the log in details.log_tail. */
export async function startDaemon(where: Where, signal?: AbortSignal): Promise<void> {
  let logStart = 0;
  try {
    await mkdir(where.paths.state, { recursive: true, mode: 0o700 });
    logStart = await stat(where.paths.log).then(
      ({ size }) => size,
      () => 0,
    );
    const deadline = Date.now() + START_MS;
    log(`starting a daemon for ${where.paths.state}`, "debug");
    let exit = await spawnDaemon(where);
    while (Date.now() < deadline) {
      if (await answers(where, signal)) return;
      const over = exit();
      if (over?.bad && Date.now() - over.at > RIVAL_MS) throw new Error(over.how);
      // The one that holds the lock is a rival that comes up, or a daemon that is on its way out: try again.
      if (over !== undefined && !over.bad && Date.now() - over.at > LEAVING_MS) exit = await spawnDaemon(where);
      await sleep(POLL_MS, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
    }
    throw new Error(`no answer within ${START_MS / 1000} s`);
  } catch (thrown) {
    if (signal?.aborted) throw thrown;
    const unusable = unusableState(where, thrown);
    if (unusable !== undefined) throw unusable;
    throw await failed(where, thrown instanceof Error ? thrown.message : String(thrown), logStart, thrown);
  }
}

/** The state directory itself is at fault: there is no log to read. Undefined for anything else. */
function unusableState(where: Where, thrown: unknown): PyroError | undefined {
  const { code, message } = thrown as NodeJS.ErrnoException;
  const { state } = where.paths;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new PyroError("HOST_DISK_FULL", `No space is left below ${state}.`, { cause: thrown });
  }
  if (
    code === undefined ||
    !["EROFS", "EACCES", "EPERM", "ENAMETOOLONG", "ENOTDIR", "EEXIST", "EISDIR", "ELOOP", "EIO"].includes(code)
  ) {
    return undefined;
  }
  return new PyroError("HOST_IO_FAILED", `pyro's state cannot be kept in ${state}: ${message}.`, {
    hint: "Make that a directory that you may write to, or name another with PYRO_HOME.",
    cause: thrown,
  });
}

/** Starts one; what is returned tells how it ended, once it has. */
async function spawnDaemon(where: Where): Promise<() => Exit | undefined> {
  let exit: Exit | undefined;
  const file = await open(where.paths.log, "a", 0o600);
  try {
    // flock holds the lock in a descriptor that the daemon inherits, so it goes with the daemon however that dies.
    const lock = ["--nonblock", "--no-fork", "--conflict-exit-code", "0", where.paths.daemonLock];
    const child = spawn("flock", [...lock, process.execPath, daemonEntry()], {
      cwd: "/",
      detached: true,
      env: daemonEnvironment(where.environment),
      stdio: ["ignore", file.fd, file.fd],
    });
    child.unref();
    child.once("error", (error) => {
      exit = { at: Date.now(), how: error.message, bad: true };
    });
    child.once("exit", (code, killed) => {
      exit = { at: Date.now(), how: killed ? `killed by ${killed}` : `exit status ${code}`, bad: code !== 0 };
    });
  } finally {
    await file.close();
  }
  return () => exit;
}

/** A daemon that accepts connections is there; whether it speaks our protocol is for the call to find out. */
async function answers(where: Where, signal?: AbortSignal): Promise<boolean> {
  try {
    (await connectOnce(where, signal)).destroy();
    return true;
  } catch (thrown) {
    if (isAbsent(thrown)) return false;
    throw thrown;
  }
}

/** Beside the bundle in an installed package, the TypeScript file in a checkout that runs from source. */
function daemonEntry(): string {
  const here = fileURLToPath(import.meta.url);
  if (here.endsWith(".ts")) return join(dirname(here), "..", "daemon", "main.ts");
  const candidates = [join(dirname(here), "daemon.js"), join(dirname(here), "..", "daemon.js")];
  return candidates.find(existsSync) ?? join(dirname(here), "daemon.js");
}

async function failed(where: Where, how: string, logStart: number, cause?: unknown): Promise<PyroError> {
  const { log } = where.paths;
  const tail = await readTail(log, logStart);
  return new PyroError("DAEMON_START_FAILED", `The daemon did not start: ${how}; its log is ${log}.`, {
    details: { log, log_tail: tail },
    cause,
  });
}

/** What the log says since `from`, at most TAIL_BYTES of it. */
async function readTail(path: string, from: number): Promise<string> {
  try {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      const start = Math.max(Math.min(from, size), size - TAIL_BYTES);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
      return buffer.subarray(0, bytesRead).toString("utf8");
    } finally {
      await file.close();
    }
  } catch {
    return "";
  }
}
