// A template's memory in the launcher: loaded into a sealed memory that microVMs are lent, and let go of.
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
