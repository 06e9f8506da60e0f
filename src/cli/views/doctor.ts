// The doctor's findings for a person: each check with its way out, then what will be used.
import type { OutputOf } from "../../operations/table.ts";
import { printableLines } from "../../text/printable.ts";
import { coloured } from "./colour.ts";
import type { Shown } from "./view.ts";

const MARKS = { ok: "ok  ", warning: "warn", failed: "FAIL" } as const;
const COLOURS = { ok: 32, warning: 33, failed: 31 } as const;

export function doctorView(output: OutputOf<"doctor">): Shown {
  const width = Math.max(0, ...output.checks.map(({ name }) => name.length));
  const lines: string[] = [];
  for (const { name, status, message, fix } of output.checks) {
    lines.push(`${coloured(MARKS[status], COLOURS[status])}  ${name.padEnd(width)}  ${printableLines(message)}`);
    if (fix !== null) lines.push(`${" ".repeat(width + 8)}${coloured("->", 36)} ${printableLines(fix)}`);
  }
  // Another daemon may be older and not say it.
  const packages = new Set(output.checks.flatMap((check) => check.package ?? []));
  if (packages.size > 0) {
    lines.push("");
    lines.push(
      `What is missing, all at once (Debian and Ubuntu, as root): apt-get install ${printableLines([...packages].join(" "))}`,
    );
  }
  lines.push("");
  lines.push(`Driver       ${output.driver}, ${output.acceleration ?? "no acceleration known"}`);
  lines.push(`Isolation    ${output.isolation}`);
  if (output.probe !== null) {
    const { ok, boot_ms, message } = output.probe;
    lines.push(
      `Probe guest  ${ok ? `booted${boot_ms === null ? "" : ` in ${boot_ms} ms`}` : "did not boot"}: ${printableLines(message)}`,
    );
  }
  lines.push("");
  lines.push(output.ok ? "pyro can start microVMs here." : "pyro cannot start a microVM here: see FAIL above.");
  return { stdout: `${lines.join("\n")}\n`, status: output.ok ? 0 : 1 };
}
