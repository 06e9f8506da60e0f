// What git ignores in a work tree. The repository may be a stranger's and its configuration names programs that git runs
// at the least occasion: here it runs none.
import { spawn } from "node:child_process";
import { PyroError } from "../../errors/error.ts";
import { findProgram } from "../../host/resources.ts";
import type { ByteName } from "./names.ts";

const DEADLINE_MS = 60_000;
/** With --directory the list names an ignored directory once, so this is not met by honest trees. */
const MAX_LIST_BYTES = 64 << 20;
const MAX_SAID_BYTES = 4096;

/**
 * Over everything that the repository's configuration says. core.fsmonitor is a program that lists changes, hooks are
 * programs. A repository may also pretend that objects are at a remote (a partial clone): git would fetch a .gitignore
 * that is only in the index, by a program or a command for ssh that the configuration names. GIT_NO_LAZY_FETCH forbids
 * it where git knows that, and forbidding all protocols where it does not yet. A bare repository among the files is not
 * taken for the one that is meant.
 */
const SAFE_CONFIG = [
  "core.fsmonitor=false",
  "core.hooksPath=/dev/null",
  "core.untrackedCache=false",
  "core.sshCommand=false",
  "core.askPass=false",
  "credential.helper=",
  "protocol.allow=never",
  "safe.bareRepository=explicit",
];

/** Of the caller's: which settings of the user's own hold, and where the search for a repository ends. */
const KEPT = /^GIT_(CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM|EXEC_PATH)$/;

/**
 * What git ignores below `directory`, which is in a work tree: names relative to it; of a directory that is ignored as a
 * whole, only its own.
 * Errors: INVALID_INPUT when there is no work tree or git refuses it, HOST_TOOL_MISSING; an abort rejects with its reason.
 */
export async function gitIgnored(directory: string, signal?: AbortSignal): Promise<Set<ByteName>> {
  const { status, list, said } = await ask(directory, signal);
  if (status !== 0) {
    const why = /not a git repository|must be run in a work tree/.test(said)
      ? "is in no work tree of git"
      : `cannot be asked of git (${said.replace(/^(fatal|error): /, "").split("\n")[0] ?? ""})`;
    throw new PyroError("INVALID_INPUT", `gitignore: ${directory} ${why}.`, {
      hint: "Leave gitignore out, or name what is not to be sent with exclude.",
    });
  }
  const names = list
    .toString("latin1")
    .split("\0")
    .filter((name) => name !== "");
  if (names.includes("./")) {
    throw new PyroError("INVALID_INPUT", `gitignore: git ignores ${directory} itself.`, {
      hint: "Leave gitignore out to send it.",
    });
  }
  return new Set(names.map((name) => (name.endsWith("/") ? name.slice(0, -1) : name)));
}

async function ask(
  directory: string,
  signal: AbortSignal | undefined,
): Promise<{ status: number | null; list: Buffer; said: string }> {
  signal?.throwIfAborted();
  const settings = SAFE_CONFIG.flatMap((setting) => ["-c", setting]);
  const asked = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"];
  const program = await findProgram("git");
  if (program === undefined) throw missing();
  const child = spawn(program, ["--no-pager", ...settings, "-C", directory, ...asked], {
    stdio: ["ignore", "pipe", "pipe"],
    env: environment(),
  });
  const list: Buffer[] = [];
  let bytes = 0;
  let said = "";
  let failure: unknown;
  const end = (reason: unknown) => {
    failure ??= reason;
    child.kill("SIGKILL");
  };
  const aborted = () => end(signal?.reason);
  signal?.addEventListener("abort", aborted, { once: true });
  const timer = setTimeout(() => end(tooSlow(directory)), DEADLINE_MS);
  child.stdout.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_LIST_BYTES) end(tooLong(directory));
    else list.push(chunk);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    if (said.length < MAX_SAID_BYTES) said += chunk.toString("utf8").slice(0, MAX_SAID_BYTES);
  });
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    if (failure !== undefined) throw failure;
    return { status, list: Buffer.concat(list), said };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", aborted);
  }
}

function environment(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  // Called from a hook of git's, GIT_DIR and its like would name another repository than the one that is asked about.
  for (const [name, value] of Object.entries(process.env))
    if (!name.startsWith("GIT_") || KEPT.test(name)) env[name] = value;
  return {
    ...env,
    LC_ALL: "C",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_NO_LAZY_FETCH: "1",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_ALLOW_PROTOCOL: "none",
    GIT_TERMINAL_PROMPT: "0",
  };
}

function missing(): PyroError {
  return new PyroError("HOST_TOOL_MISSING", "gitignore: the program git is missing; the package git holds it.", {
    hint: "Install it: `apt-get install git`; or leave --gitignore out.",
    details: { program: "git", apt_package: "git" },
  });
}

function tooSlow(directory: string): PyroError {
  return new PyroError(
    "INVALID_INPUT",
    `gitignore: git did not say within ${DEADLINE_MS / 1000} s what it ignores below ${directory}.`,
    {
      hint: "Leave gitignore out, or name what is not to be sent with exclude.",
    },
  );
}

function tooLong(directory: string): PyroError {
  return new PyroError(
    "LIMIT_EXCEEDED",
    `gitignore: git ignores more below ${directory} than can be listed (${MAX_LIST_BYTES >> 20} MiB of names).`,
    {
      hint: "Leave gitignore out, or name what is not to be sent with exclude.",
    },
  );
}
