// Snapshots for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { shellWord } from "../shell-words.ts";
import { table } from "./table.ts";
import { ageOf, sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

export function snapshotCreateView({ workspace_id, snapshot_name, bytes }: OutputOf<"snapshot.create">): Shown {
  const back = `pyro workspace reset ${shellWord(workspace_id)} --snapshot ${shellWord(snapshot_name)}`;
  return {
    stdout: `${printable(snapshot_name)} is kept, ${sizeOf(bytes)}\n`,
    note: `pyro: to go back to it: ${back}`,
  };
}

export function snapshotListView({ snapshots, next_cursor }: OutputOf<"snapshot.list">): Shown {
  const rows = snapshots.map(({ snapshot_name, created_at, bytes }) => [
    snapshot_name,
    ageOf(created_at),
    sizeOf(bytes),
  ]);
  return {
    stdout: table(["SNAPSHOT", "AGE", "SIZE"], rows),
    note: next_cursor === null ? undefined : `pyro: there are more: --cursor ${next_cursor}`,
  };
}

export function snapshotDeleteView({ snapshot_name }: OutputOf<"snapshot.delete">): Shown {
  return { stdout: `${printable(snapshot_name)} is deleted\n` };
}
