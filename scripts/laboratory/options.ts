// The command line of scripts/lab: words in, what is asked for out. Runs nothing.
import { resolve } from "node:path";
import { parseArgs } from "node:util";

export const HELP = `Usage: scripts/lab [OPTION]... 'COMMAND'
       scripts/lab [OPTION]... -- PROGRAM [ARGUMENT]...

Runs a command in an outer Debian guest whose /dev/kvm works (emulated, 20 to 60 times slower than this machine) and ends
with its exit status. The guest is made at the first call and thawed in seconds from then on. The built checkout is in
/pyro, which is where the command starts; Firecracker and its jailer are in PATH. Nothing of a run is left.

  --with HOST:GUEST      brings a file or a directory along (repeatable); a directory can be written to, in the guest
  --out GUEST:HOST       puts a file or a directory of the guest into a directory of this machine afterwards (repeatable)
  --user                 runs the command as an ordinary user (uid 1000, in the group kvm) instead of root
  --bare                 leaves the checkout at home
  --timeout SECONDS      longest time of the command (1800)
  --build                only makes the guest
  --self-test            boots a microVM in real Firecracker in it
  --verbose              tells on stderr how long each part took
  --help

PYRO_LAB_CACHE says where the guest is kept (\${XDG_CACHE_HOME:-~/.cache}/pyro-lab). The lab's own failures end with 125, a
command that took too long with 124.`;

/** A path of one side that is to appear on the other. */
export interface Passage {
  readonly host: string;
  readonly guest: string;
}

export interface Options {
  readonly task: "run" | "build" | "self-test" | "help";
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly carried: readonly Passage[];
  readonly fetched: readonly Passage[];
  readonly asUser: boolean;
  readonly bare: boolean;
  readonly timeoutSeconds: number;
  readonly verbose: boolean;
}

/** What was asked for cannot be done as it was said. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Relative paths of the host are resolved against `directory`. Errors: UsageError. */
export function parseOptions(words: readonly string[], directory: string): Options {
  const { values, positionals } = parse(words);
  const task = values.help ? "help" : values["self-test"] ? "self-test" : values.build ? "build" : "run";
  if (task === "run" && positionals.length === 0) throw new UsageError("there is no command to run");
  if (task !== "run" && task !== "help" && positionals.length > 0) throw new UsageError(`--${task} takes no command`);
  const timeoutSeconds = Number(values.timeout ?? "1800");
  if (!(timeoutSeconds > 0 && timeoutSeconds <= 86_400)) {
    throw new UsageError(`--timeout ${values.timeout}: takes a number of seconds, up to 86400`);
  }
  const [word = ""] = positionals;
  return {
    task,
    // One word is a line for the shell.
    command: positionals.length === 1 ? ["bash", "-c", word] : positionals,
    carried: (values.with ?? []).map((text) => carried(text, directory)),
    fetched: (values.out ?? []).map((text) => fetched(text, directory)),
    asUser: values.user ?? false,
    bare: values.bare ?? false,
    timeoutSeconds,
    verbose: values.verbose ?? false,
  };
}

function parse(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      allowPositionals: true,
      options: {
        with: { type: "string", multiple: true },
        out: { type: "string", multiple: true },
        user: { type: "boolean" },
        bare: { type: "boolean" },
        timeout: { type: "string" },
        build: { type: "boolean" },
        "self-test": { type: "boolean" },
        verbose: { type: "boolean" },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** HOST:GUEST. Only the guest's path may not have a colon, and it is absolute. */
function carried(text: string, directory: string): Passage {
  const at = text.lastIndexOf(":/");
  if (at <= 0 || at + 2 === text.length)
    throw new UsageError(`--with ${text}: takes HOST:GUEST, and GUEST is absolute`);
  return { host: resolve(directory, text.slice(0, at)), guest: text.slice(at + 1) };
}

/** GUEST:HOST. */
function fetched(text: string, directory: string): Passage {
  const at = text.indexOf(":");
  if (!text.startsWith("/") || at < 2 || at + 1 === text.length) {
    throw new UsageError(`--out ${text}: takes GUEST:HOST, and GUEST is absolute`);
  }
  return { host: resolve(directory, text.slice(at + 1)), guest: text.slice(0, at) };
}
