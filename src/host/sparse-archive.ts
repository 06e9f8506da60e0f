// One file with its holes, as a stream of bytes and back: GNU tar knows how to tell holes from zeros, and no file is ever in
// memory.
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { PyroError } from "../errors/error.ts";

const MOST_SAID = 16_384;
const ENVIRONMENT = () => ({ ...process.env, LC_ALL: "C", TAR_OPTIONS: undefined });

/**
 * The file `name` of a directory, as pack makes it of what nothing writes to. Leaving early ends the program.
 * Errors: HOST_IO_FAILED, HOST_TOOL_MISSING; the signal's reason.
 */
export async function* packSparse(directory: string, name: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const args = [
    "--create",
    "--file=-",
    "--format=posix",
    "--sparse",
    "--blocking-factor=128",
    "-C",
    directory,
    "--",
    name,
  ];
  const child = spawn("tar", args, { env: ENVIRONMENT(), stdio: ["ignore", "pipe", "pipe"] });
  const ended = endOf(child, child.stderr);
  const kill = () => child.kill("SIGKILL");
  signal.addEventListener("abort", kill, { once: true });
  try {
    signal.throwIfAborted();
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
    const { status, said } = await ended;
    signal.throwIfAborted();
    if (status !== 0) throw new PyroError("HOST_IO_FAILED", `${name} could not be read: ${said}`);
  } finally {
    signal.removeEventListener("abort", kill);
    kill();
  }
}

/** Takes what packSparse makes and writes the file into a directory. */
export class SparseWriter {
  readonly #directory: string;
  readonly #child: ReturnType<typeof startUnpacking>;
  readonly #ended: Promise<End>;
  #closed = false;

  constructor(directory: string) {
    this.#directory = directory;
    this.#child = startUnpacking(directory);
    this.#ended = endOf(this.#child, this.#child.stderr);
    void this.#ended.then(() => {
      this.#closed = true;
    });
    // What it did not want to read is told by its end.
    this.#child.stdin.on("error", () => {});
  }

  /** Resolves when more may come. Errors: HOST_DISK_FULL, HOST_IO_FAILED, HOST_TOOL_MISSING. */
  async write(data: Uint8Array): Promise<void> {
    const { stdin } = this.#child;
    if (this.#closed || stdin.destroyed) throw await this.#failure();
    if (stdin.write(data)) return;
    await Promise.race([new Promise<void>((resolve) => stdin.once("drain", resolve)), this.#ended]);
    if (this.#closed || stdin.destroyed) throw await this.#failure();
  }

  /** The file is whole. Errors: as write. */
  async finish(): Promise<void> {
    this.#child.stdin.end();
    if ((await this.#ended).status !== 0) throw await this.#failure();
  }

  /** Ends it, done or not, and returns when it writes nothing any more. */
  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  async #failure(): Promise<PyroError> {
    const { missing, said } = await this.#ended;
    if (missing) return toolMissing();
    if (/No space left on device|Disk quota exceeded|Wrote only \d+ of \d+ bytes/.test(said)) {
      return new PyroError("HOST_DISK_FULL", `There is no space left in ${this.#directory}.`, {
        hint: "Free space where the output is to be, or choose another place for it.",
      });
    }
    return new PyroError("HOST_IO_FAILED", `Nothing can be written in ${this.#directory}: ${said || "tar ended"}`, {
      hint: "Check permissions and free space where the output is to be.",
    });
  }
}

interface End {
  readonly status: number | null;
  /** There is no such program. */
  readonly missing: boolean;
  readonly said: string;
}

function startUnpacking(directory: string) {
  const args = ["--extract", "--file=-", "--no-same-owner", "--no-same-permissions", "-C", directory];
  // A Ctrl-C at the terminal is for whoever runs this.
  return spawn("tar", args, { env: ENVIRONMENT(), stdio: ["pipe", "ignore", "pipe"], detached: true });
}

/** Never rejects. */
function endOf(child: ChildProcess, stderr: Readable): Promise<End> {
  let said = "";
  stderr.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString("utf8")).slice(0, MOST_SAID);
  });
  return new Promise((resolve) => {
    child.once("error", (error: NodeJS.ErrnoException) =>
      resolve({ status: null, missing: error.code === "ENOENT", said: error.message }),
    );
    child.once("close", (status) => resolve({ status, missing: false, said: said.trim() }));
  });
}

function toolMissing(): PyroError {
  return new PyroError("HOST_TOOL_MISSING", "The program tar is missing; the package tar holds it.", {
    hint: "Install it: `apt-get install tar`.",
    details: { program: "tar", apt_package: "tar" },
  });
}
