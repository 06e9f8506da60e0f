// Fetches an image from a registry and makes a squashfs of it. The registry and the layers are the work of the Go program
// pyro-image (go/cmd/image): what they hold is never extracted on this host. Publishes nothing.
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ErrorCode } from "../errors/codes.ts";
import { PyroError } from "../errors/error.ts";
import { runProgram } from "../host/spawn.ts";
import type { ImageSource } from "./layout.ts";
import type { OnProgress } from "./progress.ts";
import { squash } from "./squashfs.ts";
import { beginLog, type StepPlace } from "./step.ts";

/** Longest time of a pull. One that stands still ends much earlier: pyro-image waits 20 s for a byte. */
const PULL_DEADLINE_MS = 2 * 3_600_000;
/** Time to end by itself when told to, ms. */
const GRACE_MS = 2000;
/** What every process gets where an image says nothing of its own; the one of container engines. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface FetchOptions extends StepPlace {
  /** The program pyro-image. */
  readonly program: string;
  readonly onProgress: OnProgress;
  /** Manifest of the image that is installed: when the reference still stands for it, nothing is fetched. */
  readonly installed?: string;
  /** Longest time of the pull, ms; two hours unless given. */
  readonly deadlineMs?: number;
}

export interface FetchedImage {
  /** Path of the squashfs, in the staging directory. */
  readonly image: string;
  readonly env: Readonly<Record<string, string>>;
  readonly source: ImageSource;
}

/** What pyro-image leaves in result.json. */
interface Result {
  readonly unchanged: boolean;
  readonly manifest_digest: string;
  readonly index_digest: string | null;
  readonly config_digest: string;
  readonly platform: string;
  readonly env: readonly string[] | null;
  readonly layers: readonly { readonly digest: string; readonly size_bytes: number }[] | null;
  readonly root_mode: number;
  /** Latest time of a file, seconds since 1970. */
  readonly newest: number;
}

/** How a Go program ends that is refused memory. pyro-image bounds its own, behind the limits of what it reads. */
const OUT_OF_MEMORY = /^(fatal error|runtime): .*(out of memory|cannot allocate)/;

/** pyro-image's words for what went wrong (go/internal/oci/failure.go), and what they are here. */
const KINDS: Readonly<Record<string, readonly [ErrorCode, hint?: string]>> = {
  not_found: ["ENVIRONMENT_NOT_FOUND", "Check the name and the tag of the image."],
  unauthorized: ["REGISTRY_UNAUTHORIZED"],
  unreachable: ["REGISTRY_UNREACHABLE"],
  damaged: ["ENVIRONMENT_DAMAGED"],
  platform_missing: ["ENVIRONMENT_PLATFORM_MISSING"],
  unsupported: ["ENVIRONMENT_UNSUPPORTED"],
  too_large: ["LIMIT_EXCEEDED", "Use a smaller image."],
  disk_full: ["HOST_DISK_FULL"],
  invalid: ["INVALID_INPUT"],
  host: ["HOST_IO_FAILED"],
};

/**
 * Fetches the image of `reference`, or returns undefined when it is the installed one.
 * Errors: ENVIRONMENT_NOT_FOUND, ENVIRONMENT_DAMAGED, ENVIRONMENT_PLATFORM_MISSING, ENVIRONMENT_UNSUPPORTED,
 * REGISTRY_UNAUTHORIZED, REGISTRY_UNREACHABLE, LIMIT_EXCEEDED, HOST_*, ENVIRONMENT_BUILD_FAILED.
 */
export async function fetchImage(reference: string, options: FetchOptions): Promise<FetchedImage | undefined> {
  const { staging, onProgress } = options;
  await beginLog(options.logPath);
  onProgress({ stage: "registry", message: `Asking for ${reference}`, fraction: 0 });
  const directory = join(staging, "fetched");
  await mkdir(directory, { mode: 0o700 });
  await fetch(reference, directory, options);
  const result = JSON.parse(await readFile(join(directory, "result.json"), "utf8")) as Result;
  if (result.unchanged) return undefined;
  onProgress({ stage: "image", message: "Compressing the file system", fraction: 0.9 });
  const root = { mode: result.root_mode.toString(8).padStart(4, "0"), newest: result.newest };
  const image = await squash(join(directory, "root.tar"), root, options);
  const { manifest_digest, index_digest, config_digest, platform } = result;
  const layers = result.layers ?? [];
  return {
    image,
    env: environmentOf(result.env ?? []),
    source: { kind: "oci", manifest_digest, index_digest, config_digest, platform, layers },
  };
}

async function fetch(reference: string, directory: string, options: FetchOptions): Promise<void> {
  const { program, onProgress, installed, signal, logPath, deadlineMs = PULL_DEADLINE_MS } = options;
  const unless = installed === undefined ? [] : [`-unless=${installed}`];
  // It ends with this process, even when that is killed.
  const command = ["--pdeathsig=KILL", "--", program, `-reference=${reference}`, `-directory=${directory}`, ...unless];
  let failure: { kind: string; message: string } | undefined;
  const strange: string[] = [];
  const run = await runProgram("setpriv", command, {
    aptPackage: "util-linux",
    deadlineMs,
    graceMs: GRACE_MS,
    signal,
    onLine: (line) => {
      const told = parse(line);
      if (told === undefined) strange.push(line);
      else if (told.type === "progress") onProgress(progressOf(reference, told));
      else if (told.type === "failed") failure = { kind: String(told.kind), message: String(told.message) };
    },
  });
  if (run.exitCode === 0 && failure === undefined) return;
  await appendFile(logPath, `${failure?.message ?? ""}\n${strange.join("\n")}\n`);
  // Before what it said: it was told to stop, and says no more than that.
  if (run.timedOut) {
    const minutes = Math.round(deadlineMs / 60_000);
    throw new PyroError("REGISTRY_UNREACHABLE", `${reference}: the image was not fetched in ${minutes} minutes.`, {
      details: { environment: reference },
    });
  }
  if (failure !== undefined) {
    const [code, hint] = KINDS[failure.kind] ?? ["INTERNAL"];
    throw new PyroError(code, `${reference}: ${failure.message}.`, {
      ...(hint === undefined ? {} : { hint }),
      details: { environment: reference },
    });
  }
  if (strange.some((line) => OUT_OF_MEMORY.test(line))) {
    throw new PyroError("LIMIT_EXCEEDED", `${reference}: unpacking the image takes more memory than pyro gives it.`, {
      hint: "Use a smaller image.",
      details: { environment: reference },
    });
  }
  const missing = strange.some((line) => line.includes("No such file or directory"));
  throw new PyroError(
    missing ? "HOST_TOOL_MISSING" : "INTERNAL",
    `The program ${program} ${missing ? "is missing" : `ended with ${run.signal ?? run.exitCode}`}.`,
    {
      ...(missing
        ? { hint: "In a checkout run `make setup`; an installed package is incomplete: install it again." }
        : {}),
      details: { log_tail: run.tail },
    },
  );
}

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith("{")) return line === "" ? {} : undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** The part of the whole at which each stage begins, and how long it is, where that is known. */
const STAGES: Readonly<Record<string, readonly [message: string, begin: number, length: number]>> = {
  resolve: ["Asking for", 0, 0],
  fetch: ["Fetching", 0.02, 0.58],
  read: ["Reading the layers of", 0.6, 0],
  write: ["Joining the layers of", 0.75, 0],
};

function progressOf(reference: string, told: Record<string, unknown>) {
  const [message, begin, length] = STAGES[String(told.stage)] ?? ["Pulling", 0, 0];
  const total = Number(told.total_bytes);
  const bytes = Number(told.bytes);
  const known = total > 0 ? { bytes, total_bytes: total } : {};
  const part = total > 0 ? Math.min(1, bytes / total) : 0;
  return { stage: "layers", message: `${message} ${reference}`, fraction: begin + length * part, ...known };
}

/** The image's variables; names that no process can have are left out. */
function environmentOf(env: readonly string[]): Record<string, string> {
  const variables: Record<string, string> = { PATH: DEFAULT_PATH };
  for (const variable of env) {
    const at = variable.indexOf("=");
    if (at > 0 && !variable.includes("\0")) variables[variable.slice(0, at)] = variable.slice(at + 1);
  }
  return variables;
}
