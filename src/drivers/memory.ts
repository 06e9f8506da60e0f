// A template's memory, by way of the launcher: loaded into a sealed memory that microVMs are lent and let go of, or saved
// from a file that a VMM wrote and checked where VMMs map it by name.
import type { Launcher } from "../launcher/launcher.ts";
import { TemplateDamaged } from "./driver.ts";
import type { TemplateRecord } from "./template.ts";

/** Idempotent. Throws TemplateDamaged when the memory is not what was saved. */
export async function loadMemory(launcher: Launcher, path: string, record: TemplateRecord): Promise<void> {
  const { key: templateId, memory_bytes, memory_sha256: sha256 } = record;
  await orDamaged(
    launcher.call((calls, options) =>
      calls.loadMemory({ templateId, path, sizeBytes: BigInt(memory_bytes), sha256 }, options),
    ),
  );
}

/** Reads it only when it was not read yet, or was touched since. Throws TemplateDamaged when it is not what was saved. */
export async function checkMemory(launcher: Launcher, path: string, record: TemplateRecord): Promise<void> {
  const { memory_bytes, memory_sha256: sha256 } = record;
  await orDamaged(
    launcher.call((calls, options) => calls.checkMemory({ path, sizeBytes: BigInt(memory_bytes), sha256 }, options)),
  );
}

/** Saves what a VMM wrote, readable by every user of a microVM. */
export async function importMemory(
  launcher: Launcher,
  sourcePath: string,
  bytes: number,
  savePath: string,
): Promise<{ sha256: string; dataBytes: number }> {
  const { sha256, dataBytes } = await launcher.call((calls, options) =>
    calls.importMemory({ sourcePath, sizeBytes: BigInt(bytes), savePath }, options),
  );
  return { sha256, dataBytes: Number(dataBytes) };
}

/** Idempotent. */
export async function dropMemory(launcher: Launcher, templateId: string): Promise<void> {
  await launcher.call((calls, options) => calls.dropMemory({ templateId }, options));
}

/** The launcher says so when a memory's digest is another. */
async function orDamaged<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (String((error as Error).message).includes("digest: ")) throw new TemplateDamaged((error as Error).message);
    throw error;
  }
}
