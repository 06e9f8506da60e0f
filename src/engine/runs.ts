// All runs of a daemon: begun, found again by a client that lost its connection, taken up after another daemon, and
// ended when nobody claims them.
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { orAborted } from "../abort/or-aborted.ts";
import { adoptMachine } from "../drivers/adopt.ts";
import { PyroError } from "../errors/error.ts";
import { readRecord } from "../host/records.ts";
import type { Launcher } from "../launcher/launcher.ts";
import type { OutputOf, ParsedInputOf } from "../operations/table.ts";
import { newVmId, VM_ID_PATTERN } from "../wire/ids.ts";
import { CLAIM_MS } from "../wire/protocol.ts";
import type { KnownVms } from "./known-vms.ts";
import { MicroVm } from "./microvm.ts";
import { DEFAULT_RESULT_BYTES, parseCursor, withOutput, withoutOutput } from "./result.ts";
import { RUN_SCHEMA_VERSION, Run, type RunContext, type RunRecord, type RunRequest } from "./run.ts";
import { isSecretFacts } from "./secrets/secrets.ts";

/** How long a run that is not attached is kept after it was last asked for. */
const KEPT_MS = 10 * 60_000;
/** How much longer than asked a read may take: an exit follows its output within this, ms. */
const READ_GRACE_MS = 500;

interface Entry {
  readonly run: Run;
  clients: number;
  timer: NodeJS.Timeout | undefined;
}

/** A client of a run. The run stays until the last one has left, and a while longer. */
export interface Claim {
  readonly run: Run;
  /** `finished`: the client has the end, nothing is kept for it. */
  leave(finished: boolean): void;
}

export class Runs {
  readonly #context: RunContext;
  readonly #launcher: Launcher;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  readonly #unremoved = new Set<Run>();
  /** Runs of an earlier daemon that had not got to their command: a client that comes back begins them anew. */
  readonly #neverStarted = new Set<string>();
  #closed = false;

  constructor(context: RunContext, launcher: Launcher) {
    this.#context = context;
    this.#launcher = launcher;
  }

  /** Count of runs that have not ended. */
  get running(): number {
    return this.live.length;
  }

  /**
   * Begins a run, or finds the one with this id. `mustExist`: the caller knows that it was begun.
   * Errors: MICROVM_LOST when it must exist and does not.
   */
  claim(
    request: Omit<RunRequest, "vmId" | "attached"> & { vmId: string | undefined },
    options: { attached: boolean; mustExist: boolean },
  ): Claim {
    if (this.#closed) throw new PyroError("CANCELLED", "The daemon is stopping.");
    const vmId = request.vmId ?? newVmId();
    if (!VM_ID_PATTERN.test(vmId)) throw new PyroError("INVALID_INPUT", `${vmId} cannot be the id of a microVM.`);
    let entry = this.#entries.get(vmId);
    if (entry === undefined) {
      if (options.mustExist && !this.#neverStarted.delete(vmId))
        throw new PyroError("MICROVM_LOST", `The run ${vmId} is not there any more.`);
      entry = this.#add(Run.begin(this.#context, { ...request, vmId, attached: options.attached }));
    }
    return this.#hold(entry);
  }

  /** Undefined when there is none. */
  find(vmId: string): Run | undefined {
    return this.#entries.get(vmId)?.run;
  }

  /** Reads a run's output from a cursor on. Errors: VM_NOT_FOUND, PROCESS_NOT_FOUND, CURSOR_INVALID, MICROVM_LOST. */
  async read(input: ParsedInputOf<"process.read">, signal: AbortSignal): Promise<OutputOf<"process.read">> {
    const entry = this.#entries.get(input.vm_id ?? "");
    if (entry === undefined) throw new PyroError("VM_NOT_FOUND", `There is no microVM ${input.vm_id}.`);
    const { run } = entry;
    if (run.processId !== input.process_id) {
      throw new PyroError("PROCESS_NOT_FOUND", `There is no process ${input.process_id} in ${input.vm_id}.`);
    }
    const claim = this.#hold(entry);
    try {
      const cursor = input.cursor === undefined ? 0n : parseCursor(input.cursor);
      const wait = AbortSignal.any([signal, AbortSignal.timeout((input.wait_seconds ?? 0) * 1000 + READ_GRACE_MS)]);
      await settled(run.started, wait);
      if (!run.hasSpool) {
        await (wait.aborted ? undefined : run.started);
        return this.resultOf(run, 0n);
      }
      if (cursor > run.spool.end) {
        throw new PyroError(
          "CURSOR_INVALID",
          `The cursor ${input.cursor} is beyond the output of ${input.process_id}.`,
        );
      }
      await run.spool.waitBeyond(cursor, wait);
      // The exit is known a moment after the last output; a microVM that was lost has output to give, and no exit.
      if (run.spool.finished) {
        await settled(run.ended, AbortSignal.any([signal, AbortSignal.timeout(READ_GRACE_MS)]));
        if (run.facts.end === undefined && run.spool.end === cursor) await run.ended;
      }
      const part = await withOutput(run.facts, run.spool, cursor, input.max_bytes ?? DEFAULT_RESULT_BYTES);
      return { vm_id: run.vmId, ...part };
    } finally {
      claim.leave(false);
    }
  }

  /** The result of a run as it stands, without output: that was streamed. */
  resultOf(run: Run, cursor: bigint): OutputOf<"run"> {
    return { vm_id: run.vmId, ...withoutOutput(run.facts, cursor) };
  }

  /** Takes up what an earlier daemon left, and takes the microVMs of that out of `known`. */
  async adopt(known: KnownVms): Promise<void> {
    await mkdir(this.#context.paths.runs, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#context.paths.runs)) {
      const directory = join(this.#context.paths.runs, name);
      const record = await readRecord<RunRecord>(join(directory, "run.json")).catch((error: unknown) => {
        // What is no record was never finished; a disk that cannot be read says nothing about the run.
        if (error instanceof SyntaxError) return undefined;
        throw error;
      });
      if (!isRecordOf(name, record) || record.stage === "preparing") {
        if (record?.stage === "preparing") this.#neverStarted.add(name);
        await rm(directory, { recursive: true, force: true });
        continue;
      }
      const { machine_id: machineId } = record;
      const machine = known.get(machineId)?.running ? await this.#adoptMachine(machineId) : undefined;
      const entry = this.#add(Run.adopt(this.#context, record, machine));
      entry.timer = this.#expireAfter(entry, record.attached ? CLAIM_MS : KEPT_MS);
      if (machine !== undefined) known.delete(machineId);
    }
  }

  /** Lets go of every run without ending it: this daemon cannot go on. */
  async release(): Promise<void> {
    this.#closed = true;
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.timer);
      await entry.run.release();
    }
  }

  /** Ends every run and returns when nothing of them is left. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const entry of [...this.#entries.values()])
      this.#drop(entry, new PyroError("CANCELLED", "The daemon was stopped."));
    await Promise.all(this.#closing);
  }

  /** Those that have not ended. */
  get live(): Run[] {
    return [...this.#entries.values()].map(({ run }) => run).filter((run) => run.facts.end === undefined);
  }

  async #adoptMachine(vmId: string): Promise<MicroVm | undefined> {
    const machine = await adoptMachine(this.#launcher, vmId);
    return machine === undefined ? undefined : MicroVm.adopt(machine);
  }

  #add(run: Run): Entry {
    const entry: Entry = { run, clients: 0, timer: undefined };
    this.#entries.set(run.vmId, entry);
    return entry;
  }

  #hold(entry: Entry): Claim {
    entry.clients++;
    clearTimeout(entry.timer);
    let left = false;
    return {
      run: entry.run,
      leave: (finished) => {
        if (left) return;
        left = true;
        entry.clients--;
        if (finished) this.#drop(entry, new PyroError("CANCELLED", "The run was ended."));
        else if (entry.clients === 0) entry.timer = this.#expireAfter(entry, entry.run.attached ? CLAIM_MS : KEPT_MS);
      },
    };
  }

  #expireAfter(entry: Entry, ms: number): NodeJS.Timeout {
    clearTimeout(entry.timer);
    return setTimeout(() => {
      this.#drop(entry, new PyroError("CANCELLED", "Nobody claimed the run."));
    }, ms);
  }

  #drop(entry: Entry, reason: PyroError): void {
    clearTimeout(entry.timer);
    if (this.#entries.get(entry.run.vmId) !== entry) return;
    this.#entries.delete(entry.run.vmId);
    entry.run.cancel(reason);
    this.#unremoved.add(entry.run);
    for (const run of this.#unremoved) this.#remove(run);
  }

  /** What cannot be removed is tried again with the next run's end, and at last by the next daemon. */
  #remove(run: Run): void {
    this.#unremoved.delete(run);
    const closing = run.remove().catch(() => {
      this.#unremoved.add(run);
    });
    this.#closing.add(closing);
    closing.finally(() => this.#closing.delete(closing));
  }
}

/** Whether what was read is the record of that run, with all that taking it up needs: files may hold anything. */
function isRecordOf(name: string, record: RunRecord | undefined): record is RunRecord {
  return (
    record?.vm_id === name &&
    record.schema_version === RUN_SCHEMA_VERSION &&
    typeof record.machine_id === "string" &&
    typeof record.process?.processId === "string" &&
    Array.isArray(record.process.argv) &&
    (record.secrets === undefined || isSecretFacts(record.secrets)) &&
    (record.stage === "ready" || record.stage === "preparing" || typeof record.end?.exitCode === "number")
  );
}

/** Never rejects: when the promise has ended, however, or the signal has aborted. */
async function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  await orAborted(promise, signal).catch(() => {});
}
