// The initramfs: guestd as /init and the kernel's modules, packed so that the same inputs give the same bytes.
import { chmod, copyFile, mkdir, readdir, utimes } from "node:fs/promises";
import { join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { syncPath } from "../host/records.ts";
import { runProgram } from "../host/spawn.ts";

/** Part of the key of boot artifacts: raised when the layout of the initramfs changes. */
export const INITRAMFS_FORMAT = 1;

export interface InitramfsParts {
  /** Static binary that becomes /init. */
  readonly guestd: string;
  /** Directory of *.ko files and `order`. */
  readonly modules: string;
}

/**
 * Packs an uncompressed newc cpio into `output`; `tree` is a directory that does not exist yet, on the same file
 * system, for the caller to remove. It has no device nodes (an ordinary user could not make them): guestd mounts
 * devtmpfs itself.
 */
export async function packInitramfs(
  parts: InitramfsParts,
  tree: string,
  output: string,
  signal?: AbortSignal,
): Promise<void> {
  const names = ["dev", "init", "modules", "proc", "sys"];
  for (const directory of ["", "dev", "proc", "sys", "modules"]) {
    await mkdir(join(tree, directory));
    await chmod(join(tree, directory), 0o755);
  }
  await copyFile(parts.guestd, join(tree, "init"));
  await chmod(join(tree, "init"), 0o755);
  for (const name of (await readdir(parts.modules)).sort()) {
    await copyFile(join(parts.modules, name), join(tree, "modules", name));
    await chmod(join(tree, "modules", name), 0o644);
    names.push(`modules/${name}`);
  }
  names.sort();
  for (const name of names) await utimes(join(tree, name), 0, 0);
  const result = await runProgram(
    "cpio",
    ["--create", "--format=newc", "--reproducible", "--owner=+0:+0", "--quiet", `--file=${output}`],
    { cwd: tree, input: `${names.join("\n")}\n`, aptPackage: "cpio", deadlineMs: 60_000, bound: true, signal },
  );
  if (result.exitCode !== 0) {
    const code = /No space left on device/.test(result.tail) ? "HOST_DISK_FULL" : "ENVIRONMENT_BUILD_FAILED";
    throw new PyroError(code, "cpio could not pack the initramfs.", { details: { log_tail: result.tail } });
  }
  await chmod(output, 0o644);
  await syncPath(output);
}
