// A workspace summed up: what is counted and what is left out, however much there is, and that it stays short in all faces.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { summaryView } from "../../../../src/cli/views/summary.ts";
import { ChangeCounts } from "../../../../src/engine/workspace/change-counts.ts";
import type { ChangeEntry } from "../../../../src/engine/workspace/changes.ts";
import { unreadableRecord } from "../../../../src/engine/workspace/description.ts";
import { Exchanges } from "../../../../src/engine/workspace/exchanges.ts";
import { Ledger } from "../../../../src/engine/workspace/ledger.ts";
import { finishReset } from "../../../../src/engine/workspace/reset.ts";
import { type Gathered, shortest } from "../../../../src/engine/workspace/summary-size.ts";
import { OPERATIONS, type OutputOf } from "../../../../src/operations/table.ts";

type Summary = OutputOf<"workspace.summary">;

const AT = "2026-11-29T00:00:00.000Z";

function many<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

function command(index: number, more: object = {}): Gathered["commands"]["entries"][number] {
  const ended = { state: "exited", exit_code: index % 5 === 0 ? 1 : 0, timed_out: false } as const;
  return { process_id: `proc_${index}`, command: ["make", "test"], ...ended, started_at: AT, duration_ms: 10, ...more };
}

function gathered(more: Partial<Gathered> = {}): Gathered {
  return {
    workspace_id: "ws_aaaaaaaaaa",
    name: "fix-tests",
    state: "started",
    stop_reason: null,
    since: AT,
    reset_count: 0,
    commands: { total: 0, succeeded: 0, failed: 0, lost: 0, running: 0, entries: [] },
    changes: null,
    changes_left_out: "nobody asked",
    services: { total: 0, running: 0, entries: [] },
    shells: { total: 0, open: 0, entries: [] },
    snapshots: { total: 0, entries: [] },
    pushes: { total: 0, entries: [] },
    exports: { total: 0, entries: [] },
    ...more,
  };
}

/** As much of everything as there can be, in texts that take the most room. */
function everything(text: string): Gathered {
  const words = text.repeat(500);
  const changes = { total: 9000, added: 9000, modified: 0, deleted: 0, type_changed: 0, insertions: 1, deletions: 2 };
  const running = (index: number) => command(index, { command: [words, words], state: "running", exit_code: null });
  return gathered({
    name: "n".repeat(64),
    commands: {
      ...{ total: 9000, succeeded: 8000, failed: 900, lost: 36, running: 64 },
      entries: [
        ...many(32, (index) => command(index, { command: many(50, () => text) })),
        ...many(32, (i) => running(100 + i)),
      ],
    },
    changes: { ...changes, directories: many(9000, (index) => ({ path: `${words}${index}`, total: 1 })), untold: 7 },
    changes_left_out: null,
    services: {
      ...{ total: 500, running: 200 },
      entries: many(500, (index) => ({
        service_name: `${"s".repeat(60)}${index}`,
        state: index % 2 === 0 ? ("exited" as const) : ("running" as const),
        exit_code: null,
        host_ports: many(16, (port) => 50_000 + port),
      })),
    },
    shells: {
      total: 90,
      open: 90,
      entries: many(32, (index) => ({ shell_id: `sh_${index}`, cwd: words, started_at: AT })),
    },
    snapshots: {
      total: 1000,
      entries: many(1000, (index) => ({ snapshot_name: `${"s".repeat(60)}${index}`, created_at: AT })),
    },
    pushes: {
      total: 4000,
      entries: many(6, () => ({
        source_path: words,
        destination: words,
        entry_count: 1,
        bytes_written: 2,
        pushed_at: AT,
      })),
    },
    exports: {
      total: 3000,
      entries: many(6, () => ({
        ...{ kind: "files" as const, workspace_path: words, output_path: words, bytes_written: 2, exported_at: AT },
      })),
    },
  });
}

/** As a tool's result holds it. */
function resultBytes(summary: Summary): number {
  const text = JSON.stringify(summary);
  return Buffer.byteLength(JSON.stringify({ content: [{ type: "text", text }], structuredContent: summary }));
}

for (const [what, text] of Object.entries({ letters: "a/", quotes: '"\\', controls: "\u0001", wide: "\u{1f600}é" })) {
  test(`a summary of everything there can be is short, and what it leaves out is counted: ${what}`, () => {
    const summary = shortest(everything(text));
    assert.deepEqual(OPERATIONS["workspace.summary"].output.parse(summary), summary);
    assert.ok(resultBytes(summary) < 8000, `${resultBytes(summary)} bytes`);
    assert.ok(JSON.stringify(summary).isWellFormed());
    const { commands, changes, services, shells, snapshots, pushes, exports } = summary;
    assert.deepEqual([commands.total, commands.entries.length + commands.entries_omitted], [9000, 9000]);
    assert.ok(commands.entries.length > 0 && commands.entries.every(({ state }) => state === "running"));
    assert.equal(commands.entries.at(-1)?.process_id, "proc_131");
    assert.equal((changes?.directories.length ?? 0) + (changes?.directories_omitted ?? 0), 9007);
    assert.ok(services.entries.every(({ state }) => state === "running"));
    assert.equal(services.entries.length + services.entries_omitted, 500);
    assert.equal(shells.entries.length + shells.entries_omitted, 90);
    assert.match(snapshots.entries.at(-1)?.snapshot_name ?? "", /s999$/);
    assert.equal(pushes.entries.length + pushes.entries_omitted, 4000);
    assert.equal(exports.entries.length + exports.entries_omitted, 3000);
    const screen = summaryView(summary).stdout as string;
    const lines = screen.trimEnd().split("\n");
    assert.ok(lines.length <= 24, screen);
    assert.ok(
      lines.every((line) => line.length <= 80),
      screen,
    );
  });
}

test("thousands of ordinary commands and changes leave the newest ten and the fullest directories", async () => {
  const counts = new ChangeCounts();
  const change = (path: string, status: ChangeEntry["status"]) =>
    counts.change({ path, status, insertions: 2, deletions: 1 } as ChangeEntry);
  for (let index = 0; index < 5000; index++) await change(`src/${index}/a.ts`, "added");
  for (let index = 0; index < 30; index++) await change(`test/${index}.ts`, "modified");
  await change("README.md", "deleted");
  const { directories, untold, counts: numbers } = counts;
  assert.deepEqual(
    [directories, untold],
    [
      [
        { path: "src", total: 5000 },
        { path: "test", total: 30 },
        { path: ".", total: 1 },
      ],
      0,
    ],
  );
  const totals = { total: 3000, succeeded: 2400, failed: 599, lost: 0, running: 1 };
  const entries = [command(7, { state: "running", exit_code: null }), ...many(32, (index) => command(2969 + index))];
  const summary = shortest(
    gathered({
      commands: { ...totals, entries },
      changes: { ...numbers, directories, untold },
      changes_left_out: null,
    }),
  );
  assert.deepEqual(
    summary.commands.entries.map(({ process_id }) => process_id),
    ["proc_7", ...many(9, (index) => `proc_${2992 + index}`)],
  );
  assert.equal(summary.commands.entries_omitted, 2990);
  assert.deepEqual([summary.changes?.total, summary.changes?.insertions], [5031, 10_062]);
  const screen = summaryView(summary).stdout as string;
  assert.match(screen, /^Commands +3000: 2400 succeeded, 599 failed, 1 running; 8 of them:$/m);
  assert.match(screen, /^ +proc_3000 exit 1 +0\.0s {2}make test$/m);
  assert.match(screen, /^Changes +5031: 5000 added, 30 modified, 1 deleted, \+10062 -5031 lines$/m);
  assert.match(screen, /^ +5000 {2}src$/m);
  assert.match(screen, /^Still runs +1 command$/m);
});

test("names of directories that a guest makes up are bounded, and counted", async () => {
  const counts = new ChangeCounts();
  for (let index = 0; index < 10_050; index++) {
    await counts.change({ path: `d${index}/a`, status: "added", insertions: 0, deletions: 0 } as ChangeEntry);
  }
  assert.deepEqual([counts.directories.length, counts.untold, counts.counts.total], [10_000, 50, 10_050]);
});

test("an empty workspace has an empty summary, and what is not known says so", () => {
  const screen = summaryView(shortest(gathered())).stdout as string;
  assert.match(screen, /^Commands +none$/m);
  assert.match(screen, /^Changes +not known: nobody asked$/m);
  assert.match(screen, /^Still runs +nothing$/m);
  assert.equal(screen.trimEnd().split("\n").length, 4);
});

test("pushes and exports are remembered, the last of them by name, until a reset", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-exchanges-"));
  try {
    const ledger = new Ledger(unreadableRecord("ws_aaaaaaaaaa", ""), directory);
    const exchanges = new Exchanges(ledger);
    const push = { source_path: "/src", destination: "/workspace", entry_count: 1, bytes_written: 1 };
    await Promise.all(many(9, (index) => exchanges.pushed({ ...push, source_path: `/src${index}` })));
    await exchanges.exported({ kind: "disk", workspace_path: "/", output_path: "/out.ext4", bytes_written: 5 });
    const { push_count, pushes, export_count, exports } = new Exchanges(ledger).stored;
    assert.deepEqual([push_count, pushes.length, pushes.at(-1)?.source_path], [9, 6, "/src8"]);
    assert.deepEqual([export_count, exports[0]?.kind], [1, "disk"]);
    ledger.note(await finishReset(ledger));
    assert.deepEqual(new Exchanges(ledger).stored, { push_count: 0, pushes: [], export_count: 0, exports: [] });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
