// A workspace's network, for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import type { Shown } from "./view.ts";
import { secretOf } from "./workspace.ts";

type Entry = OutputOf<"network.log">["entries"][number];

/** One decision on a line. */
export function networkLine({ time, verdict, protocol, name, address, port, reason, count, code }: Entry): string {
  const place = address === null ? "" : address.includes(":") ? `[${address}]` : address;
  const at = port === null || place === "" ? place : `${place}:${port}`;
  const what = [name, at].filter((part) => part !== null && part !== "").join(" ");
  const often = count > 1 ? ` (${count} times)` : "";
  const which = code === null ? "" : ` [${code}]`;
  return printable(`${time} ${verdict.padEnd(7)} ${protocol.padEnd(4)} ${what}: ${reason}${which}${often}`);
}

/** What is said behind all decisions. */
export function networkLogView({ entries, next_cursor }: OutputOf<"network.log">): Shown {
  const stdout = entries.map((entry) => `${networkLine(entry)}\n`).join("");
  if (next_cursor !== null) return { stdout, note: `pyro: there are more: --cursor ${next_cursor}` };
  return entries.length === 0 ? { note: "pyro: nothing was decided yet" } : { stdout };
}

export function networkSetView({ workspace_id, allow_hosts }: OutputOf<"network.set">): Shown {
  const reach = allow_hosts.length === 0 ? "every public host" : allow_hosts.join(", ");
  return { stdout: `${printable(`${workspace_id} may reach ${reach}`)}\n` };
}

export function secretSetView({ workspace_id, secrets }: OutputOf<"secret.set">): Shown {
  return { stdout: `${printable(`${workspace_id} has ${secrets.map(secretOf).join(", ")}`)}\n` };
}
