// `pyro workspace delete`: one, several, or all that a selection finds. One that cannot be deleted keeps no other.
import { createInterface } from "node:readline/promises";
import { call } from "../client/call.ts";
import { PyroError } from "../errors/error.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import { printable } from "../text/printable.ts";
import { type Context, Ended } from "./context.ts";
import { errorText } from "./error-text.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";

/** What is to go: words for it, and what each is called by. */
interface Doomed {
  readonly word: string;
  readonly shown: string;
}

const PAGE = 1000;

/** The exit status. `typed`: words in workspace_id, and label, all and yes as they were given. Errors: INVALID_INPUT. */
export async function deleteWorkspaces(typed: Readonly<Record<string, unknown>>, context: Context): Promise<number> {
  const words = [...new Set((typed.workspace_id as readonly string[] | undefined) ?? [])];
  const labels = typed.label as Readonly<Record<string, string>> | undefined;
  const all = typed.all === true;
  if ([words.length > 0, labels !== undefined, all].filter(Boolean).length !== 1) {
    throw wrong(
      words.length === 0 && !labels && !all
        ? "It has to be said which: a workspace's name or id, --label or --all."
        : "Workspaces are named, or selected by --label, or --all of them: one of these.",
    );
  }
  return interruptible(async (signal) => {
    const [only] = words;
    if (words.length === 1 && only !== undefined) {
      const output = await deleteOne(only, context, signal);
      if (context.json) await writeJson(output);
      else await writeAll(STDOUT, deletedLine(only, output));
      return 0;
    }
    const doomed =
      words.length > 0 ? words.map((word) => ({ word, shown: word })) : await selected(labels, context, signal);
    if (all && doomed.length > 0 && typed.yes !== true) await confirm(doomed, context, signal);
    return deleteEach(doomed, context, signal);
  });
}

async function deleteEach(doomed: readonly Doomed[], context: Context, signal: AbortSignal): Promise<number> {
  const told: object[] = [];
  let failed = false;
  for (const { word, shown } of doomed) {
    try {
      const output = await deleteOne(word, context, signal);
      told.push(output);
      if (!context.json) await writeAll(STDOUT, deletedLine(shown, output));
    } catch (thrown) {
      if (thrown instanceof Ended || signal.aborted) throw thrown;
      failed = true;
      const error = PyroError.from(thrown);
      told.push({ workspace_id: word, deleted: false, error: error.toData() });
      if (!context.json) await writeAll(STDERR, errorText(error));
    }
  }
  if (context.json) await writeJson({ workspaces: told });
  else if (doomed.length === 0 && !context.quiet) await writeAll(STDERR, "pyro: there is none to delete\n");
  return failed ? 1 : 0;
}

function deleteOne(word: string, context: Context, signal: AbortSignal): Promise<OutputOf<"workspace.delete">> {
  return call(context.where, "workspace.delete", { workspace_id: word }, { signal });
}

/** All that have these labels; without any, all there are. */
async function selected(
  labels: Readonly<Record<string, string>> | undefined,
  context: Context,
  signal: AbortSignal,
): Promise<Doomed[]> {
  const found: Doomed[] = [];
  const input: InputOf<"workspace.list"> = { limit: PAGE, ...(labels ? { labels } : {}) };
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await call(context.where, "workspace.list", cursor === undefined ? input : { ...input, cursor }, {
      signal,
    });
    for (const { workspace_id: id, name } of page.workspaces) {
      found.push({ word: id, shown: name === null ? id : name });
    }
    cursor = page.next_cursor;
  }
  return found;
}

/** Returns when a person says yes. Errors: INVALID_INPUT where nobody can be asked, CANCELLED. */
async function confirm(doomed: readonly Doomed[], context: Context, signal: AbortSignal): Promise<void> {
  if (context.json || process.stdin.isTTY !== true || process.stderr.isTTY !== true) {
    throw wrong("--all needs --yes where nobody can be asked.");
  }
  const names = doomed
    .map(({ word, shown }) => `  ${printable(shown === word ? word : `${shown} (${word})`)}\n`)
    .join("");
  const what =
    doomed.length === 1 ? "this workspace and all in it" : `these ${doomed.length} workspaces and all in them`;
  await writeAll(STDERR, `${names}Delete ${what}? [y/N] `);
  // No line editing: Ctrl-C stays the signal that it is everywhere.
  const asking = createInterface({ input: process.stdin, terminal: false });
  const ended = new AbortController();
  asking.once("close", () => ended.abort());
  try {
    const reply = await asking.question("", { signal: AbortSignal.any([signal, ended.signal]) }).catch(() => "");
    signal.throwIfAborted();
    if (/^y(es)?$/i.test(reply.trim())) return;
    throw new PyroError("CANCELLED", "Nothing was deleted.", { hint: "Answer y to delete, or say --yes." });
  } finally {
    asking.close();
  }
}

function deletedLine(shown: string, { workspace_id }: OutputOf<"workspace.delete">): string {
  return `deleted ${printable(shown === workspace_id ? workspace_id : `${shown} (${workspace_id})`)}\n`;
}

function wrong(message: string): PyroError {
  return new PyroError("INVALID_INPUT", message, {
    hint: "For example: pyro workspace delete fix-tests, or pyro workspace delete --label team=core",
  });
}
