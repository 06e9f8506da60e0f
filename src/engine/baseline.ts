// The file that a seeded workspace's baseline is copied into. It is a read-only drive of the microVM from its start on, as
// not every VMM takes files later; what is in it comes when the seed is there.
import { chmod, lstat, open } from "node:fs/promises";
import type { DriveFile } from "../drivers/driver.ts";

/** A VMM in a jail has it by name, as another user; directories above it keep everyone else out. */
const MODE = process.geteuid?.() === 0 ? 0o444 : 0o600;

/** An empty file of the disk's size, without taking room. Nothing may be at the path. Errors: those of the system. */
export async function makeBaseline(path: string, diskMib: number): Promise<void> {
  await using file = await open(path, "wx", MODE);
  await file.truncate(diskMib * 2 ** 20);
  await file.chmod(MODE);
}

/** As a drive; nothing where there is no such file, and then there is nothing to compare with. */
export async function baselineDrive(path: string | undefined, diskMib: number): Promise<{ baseline?: DriveFile }> {
  if (path === undefined || (await lstat(path).catch(() => undefined)) === undefined) return {};
  // It may be a copy by now.
  await chmod(path, MODE);
  return { baseline: { path, readOnly: true, virtualBytes: diskMib * 2 ** 20 } };
}
