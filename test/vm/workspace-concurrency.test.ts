// Ten workspaces at once, used by three clients that are processes of their own: every output is whole, in its own log
// and in no other, and a command that never ends delays nothing.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { within } from "./faulty.ts";
import { ownHome, startProgram } from "./harness.ts";
import { untilAtRest } from "./remains.ts";
import { commandOf, outputOf, statusOf } from "./workspace-commands.ts";
import { type LogEntry, type Workspace, Workspaces } from "./workspaces.ts";

const WORKSPACES = 10;
const COMMANDS = 100;
const CLIENTS = 3;
const CLIENT = join(import.meta.dirname, "workspace-client.ts");
/** Longest that `true` may take beside a command that never ends; a lock would take for ever. */
const BESIDE_MS = 20_000;

test(`${COMMANDS} commands in ${WORKSPACES} workspaces from ${CLIENTS} clients`, { timeout: 600_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const all = new Workspaces(home.env);
  const workspaces = await Promise.all(Array.from({ length: WORKSPACES }, () => all.create()));
  const ids = workspaces.map(({ id }) => id);
  assert.equal(new Set(ids).size, WORKSPACES);
  assert.deepEqual(
    (await all.list()).map(({ state }) => state),
    Array(WORKSPACES).fill("started"),
  );

  // Two that never end, one attached and one not, in a workspace that is used like the others.
  const [busy] = workspaces as [Workspace, ...Workspace[]];
  const endless = busy.startExec(["sh", "-c", "echo here; exec sleep 100000"]);
  await endless.untilOutput("here");
  await all.ask(["exec", busy.id, "--detach", "--", "sh", "-c", "while :; do sleep 1; done"]);

  const share = Math.ceil(COMMANDS / CLIENTS);
  const clients = Array.from({ length: CLIENTS }, (_, client) => {
    const first = client * share;
    const count = Math.min(share, COMMANDS - first);
    return startProgram(process.execPath, [CLIENT, home.path, String(first), String(count), ...ids]);
  });
  for (const { finished } of clients) {
    const { status, stdout, stderr } = await within(finished, 400_000);
    assert.equal(stdout.toString(), "", "outputs that are not as they should be");
    assert.equal(status, 0, stderr.toString());
  }
  const begun = performance.now();
  for (const workspace of workspaces.slice(0, 2)) await workspace.ok(["true"]);
  assert.ok(performance.now() - begun < BESIDE_MS, "a command that never ends delays others");

  for (const [index, workspace] of workspaces.entries()) {
    const wanted = new Set(
      Array.from({ length: COMMANDS }, (_, number) => number).filter((n) => n % WORKSPACES === index),
    );
    for (const entry of await workspace.logs()) {
      const number = [...wanted].find((one) => commandOf(one)[2] === entry.command[2]);
      if (number === undefined) {
        assert.doesNotMatch(entry.stdout, /^command/, `of another workspace: ${entry.command.join(" ")}`);
        continue;
      }
      wanted.delete(number);
      assert.deepEqual([entry.state, entry.exit_code], ["exited", statusOf(number)]);
      assert.equal(await outputIn(all, workspace, entry), outputOf(number), `command ${number}`);
    }
    assert.deepEqual([...wanted], [], `commands that are not in the log of ${workspace.id}`);
  }

  const { stdout } = await all.finish(["process", "list", busy.id, "--json"]);
  assert.equal((JSON.parse(stdout.toString()) as { processes: unknown[] }).processes.length, 2, "both still run");
  await Promise.all(workspaces.map((workspace) => workspace.delete()));
  assert.equal((await endless.finished).status, 125);
  await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
});

/** All that a command printed, from its log. */
async function outputIn(all: Workspaces, workspace: Workspace, entry: LogEntry): Promise<string> {
  if (entry.omitted_bytes === 0) return entry.stdout;
  const args = ["process", "read", workspace.id, entry.process_id, "--max-bytes", "65536", "--wait-seconds", "0"];
  let text = "";
  let read = await all.ask<LogEntry>(args);
  for (; read.stdout !== ""; read = await all.ask<LogEntry>([...args, "--cursor", read.next_cursor]))
    text += read.stdout;
  return text;
}
