// `pyro workspace file read` and `disk read`: the content on stdout, byte by byte, and the facts beside it unless only the content is wanted.
import { call } from "../client/call.ts";
import type { InputOf } from "../operations/table.ts";
import type { Context } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { fileReadView } from "./views/file.ts";

type Name = "workspace.file_read" | "workspace.disk_read";

/** The exit status. Errors are thrown. */
export async function readFile(
  name: Name,
  input: InputOf<Name>,
  beside: Readonly<Record<string, unknown>>,
  context: Context,
): Promise<number> {
  const output = await interruptible((signal) => call(context.where, name, input, { signal }));
  if (context.json) {
    await writeJson(output);
    return 0;
  }
  const { stdout = "", note } = fileReadView(output);
  await writeAll(STDOUT, stdout);
  // Content that was cut looks whole: that is told in any case but --quiet.
  const told = output.truncated || beside.content_only !== true;
  if (told && note !== undefined && !context.quiet) await writeAll(STDERR, `${note}\n`);
  return 0;
}
