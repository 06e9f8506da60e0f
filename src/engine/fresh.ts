// A microVM made from nothing but what is prepared: a disk formatted while the template is restored onto it. A template that
// turns out damaged is made again on the way. Only some are started at once: each has deadlines to meet, which a hundred
// on two cores would all miss.
import { rm } from "node:fs/promises";
import { type DriveFile, type Drives, TemplateDamaged } from "../drivers/driver.ts";
import { beginDisk } from "../environments/disk.ts";
import { PyroError } from "../errors/error.ts";
import { hostCpus } from "../host/resources.ts";
import { baselineDrive, makeBaseline } from "./baseline.ts";
import { Gate } from "./gate.ts";
import { type Identity, MicroVm, type MicroVmOptions } from "./microvm.ts";
import type { Prepared } from "./preparation.ts";
import type { FoundTemplate, Progress } from "./templates.ts";

export interface FreshOptions {
  /** The launcher's name for it, unique. */
  readonly machineId: string;
  /** Where its writable disk is made; nothing may be there. Removed again on failure. */
  readonly diskPath: string;
  /** Where the file for a baseline is, or is made; removed again with the disk. Without it there is none. */
  readonly baselinePath?: string;
  readonly signal: AbortSignal;
}

export interface AgainOptions extends FreshOptions {
  /** Who it was before. */
  readonly identity: Identity;
}

export interface InspectorOptions {
  readonly machineId: string;
  readonly writable: DriveFile;
  readonly aux?: DriveFile | undefined;
  /** As in FreshOptions; nothing need be there. */
  readonly baselinePath?: string | undefined;
  readonly signal: AbortSignal;
}

/** Starts at once per core of the host. */
const STARTS_PER_CORE = 2;
const FEWEST_STARTS = 4;

export class FreshStarts {
  readonly #gate = new Gate(Math.max(FEWEST_STARTS, STARTS_PER_CORE * hostCpus()));

  /** On failure nothing of it is left. Errors: those of MicroVm.start and formatDisk; the signal's reason. */
  async start(prepared: Prepared, options: FreshOptions, progress: Progress): Promise<MicroVm> {
    return await this.#gate.pass(async () => {
      const { diskPath, baselinePath } = options;
      const { diskMib } = prepared.shape;
      const { formatted } = await beginDisk(diskPath, diskMib, options.signal);
      try {
        if (baselinePath !== undefined) await makeBaseline(baselinePath, diskMib);
        return await restore(prepared, { ...options, formatted }, progress);
      } catch (error) {
        await formatted.catch(() => {});
        await rm(diskPath, { force: true });
        if (baselinePath !== undefined) await rm(baselinePath, { force: true });
        throw error;
      }
    }, options.signal);
  }

  /** Starts a microVM on a disk that there is; it stays on failure. Errors: those of MicroVm.start; the signal's reason. */
  async again(prepared: Prepared, options: AgainOptions, progress: Progress): Promise<MicroVm> {
    return await this.#gate.pass(() => restore(prepared, options, progress), options.signal);
  }

  /** Starts a microVM that has these disks and mounts none. Errors: those of MicroVm.start; the signal's reason. */
  async apart(prepared: Prepared, options: InspectorOptions, progress: Progress): Promise<MicroVm> {
    const { machineId, writable, aux, baselinePath, signal } = options;
    const drives: Drives = {
      base: baseOf(prepared),
      writable,
      ...(aux === undefined ? {} : { aux }),
      ...(await baselineDrive(baselinePath, prepared.shape.diskMib)),
    };
    const start = { drives, baseType: undefined, ephemeral: true, signal };
    return await this.#gate.pass(() => begun(prepared, machineId, start, progress), signal);
  }
}

async function restore(
  prepared: Prepared,
  options: FreshOptions & { readonly identity?: Identity; readonly formatted?: Promise<void> },
  progress: Progress,
): Promise<MicroVm> {
  const { shape, environment } = prepared;
  const { diskPath, signal, identity, formatted } = options;
  const drives: Drives = {
    base: baseOf(prepared),
    writable: { path: diskPath, readOnly: false, virtualBytes: shape.diskMib * 2 ** 20 },
    ...(await baselineDrive(options.baselinePath, shape.diskMib)),
  };
  const start = {
    drives,
    baseType: environment.baseType,
    ephemeral: true,
    signal,
    ...(identity === undefined ? {} : { identity }),
    ...(formatted === undefined ? {} : { formatted }),
  };
  return await begun(prepared, options.machineId, start, progress);
}

function baseOf({ environment }: Prepared): DriveFile {
  return { path: environment.imagePath, readOnly: true, virtualBytes: environment.size_bytes };
}

async function begun(
  prepared: Prepared,
  machineId: string,
  start: MicroVmOptions,
  progress: Progress,
): Promise<MicroVm> {
  const { spec, driver, templates } = prepared;
  const begin = (template: FoundTemplate) => MicroVm.start(driver, template, spec, machineId, start);
  try {
    return await begin(prepared.template);
  } catch (error) {
    if (error instanceof TemplateDamaged) {
      const template = await templates.remake(prepared.template, spec, progress);
      return await begin(template).catch((again: unknown) => {
        if (!(again instanceof TemplateDamaged)) throw again;
        throw new PyroError("MICROVM_START_FAILED", `A template that was just made cannot be used: ${again.message}`, {
          cause: again,
        });
      });
    }
    if (!endedUnready(error)) throw error;
    progress({ stage: "restore", message: "The microVM ended before it was ready; starting another", fraction: null });
    return await begin(prepared.template);
  }
}

/**
 * Its guest ended by itself before anything was asked to run in it, so another may take its place, once: under a KVM that is
 * itself emulated one restore in some tens was seen to reset at its first instructions.
 */
function endedUnready(error: unknown): boolean {
  if (!(error instanceof PyroError) || error.code !== "MICROVM_START_FAILED") return false;
  return error.cause instanceof PyroError && error.cause.code === "MICROVM_LOST";
}
