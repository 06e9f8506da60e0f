// A home with an image store of its own, so that a test may prune it; kernel and templates are those of all tests.
import { cp, mkdir, mkdtemp, readdir, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OwnHome, pyro, runOk, sharedHome } from "../vm/harness.ts";

export async function storeOfItsOwn(): Promise<OwnHome> {
  const shared = sharedHome();
  await runOk(["--", "true"]);
  const path = await mkdtemp(join(tmpdir(), "pyro-home-"));
  await mkdir(join(path, "environments"));
  for (const part of ["boot", "kernels"]) {
    await cp(join(shared, "environments", part), join(path, "environments", part), { recursive: true });
  }
  await symlink(join(shared, "cache"), join(path, "cache"));
  return new OwnHome(path, 0);
}

/** What lies in the store that a finished pull would not leave: all but boot files, kernels and logs. */
export async function remains(home: OwnHome): Promise<string[]> {
  const entries = await readdir(home.paths.environments, { recursive: true });
  return entries.filter((name) => !/^(boot|kernels|logs)(\/|$)/.test(name)).sort();
}

/** `pyro ARGS --json`, its status and its one document. */
export async function json(home: OwnHome, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Answer> {
  const { status, stdout, stderr } = await pyro([...args, "--json"], { env: { ...home.env, ...env } });
  try {
    return { status, document: JSON.parse(stdout.toString()) as Answer["document"] };
  } catch {
    throw new Error(`pyro ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  }
}

export interface Answer {
  readonly status: number | null;
  // biome-ignore lint/suspicious/noExplicitAny: each operation has a document of its own.
  readonly document: any;
}
