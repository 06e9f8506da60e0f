// The host's processor, as far as a template depends on it.
import { readFile } from "node:fs/promises";

/** Model, microcode and features of the first processor, a line each. */
export async function describeProcessor(): Promise<string[]> {
  const text = await readFile("/proc/cpuinfo", "utf8");
  const first = text.split("\n\n", 1)[0] ?? "";
  return first.split("\n").filter((line) => /^(vendor_id|cpu family|model|stepping|microcode|flags)\b/.test(line));
}
