// A template on disk, of any driver: what was written at the freeze, and whether it is still that.
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { readRecord, writeRecord } from "../host/records.ts";
import { TemplateDamaged } from "./driver.ts";

const SCHEMA_VERSION = 1;

export interface TemplateFiles {
  readonly state: string;
  readonly memory: string;
  readonly record: string;
}

export interface TemplateRecord {
  readonly schema_version: number;
  readonly key: string;
  readonly state_sha256: string;
  readonly memory_sha256: string;
  readonly memory_bytes: number;
  readonly memory_data_bytes: number;
}

export function filesOf(directory: string): TemplateFiles {
  return {
    state: join(directory, "state"),
    memory: join(directory, "memory"),
    record: join(directory, "template.json"),
  };
}

export async function recordTemplate(directory: string, record: Omit<TemplateRecord, "schema_version">): Promise<void> {
  await writeRecord(filesOf(directory).record, { schema_version: SCHEMA_VERSION, ...record });
}

export function digestOf(state: Uint8Array): string {
  return createHash("sha256").update(state).digest("hex");
}

export async function digestOfFile(path: string): Promise<string> {
  return digestOf(await readFile(path));
}

/** Reads the record and checks the device state against it; the launcher checks the memory: see memory.ts. */
export async function checkTemplate(directory: string, key: string): Promise<TemplateRecord> {
  const files = filesOf(directory);
  try {
    const record = await readRecord<TemplateRecord>(files.record);
    if (record == null) throw new Error("it has no record");
    if (record.schema_version !== SCHEMA_VERSION || record.key !== key) throw new Error("it is of another make");
    if ((await digestOfFile(files.state)) !== record.state_sha256) throw new Error("its device state has changed");
    if ((await stat(files.memory)).size !== record.memory_bytes) throw new Error("its memory has another size");
    return record;
  } catch (error) {
    throw new TemplateDamaged(`the template in ${directory} cannot be used: ${(error as Error).message}`);
  }
}
