// Serves one viewer of a shell: the screen as it is, then output as it comes, what is typed, and the size of the viewer's
// terminal. There may be several. None holds the shell up: one that falls far behind is shown the screen again.
import { orAborted } from "../abort/or-aborted.ts";
import type { Engine } from "../engine/engine.ts";
import type { Shell } from "../engine/workspace/shell.ts";
import { PyroError } from "../errors/error.ts";
import { DEFAULT_COLS, DEFAULT_ROWS } from "../operations/shell.ts";
import type { EventOf, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { type Attachable, receive } from "./attached.ts";
import { requestIdOf } from "./shells.ts";
import type { Reply, Requests } from "./stream.ts";

/** How far a viewer may fall behind, bytes. */
const BEHIND_BYTES = 8n << 20n;
/** Most of a redrawn screen in one event, characters. */
const REDRAW_CHARACTERS = 128 << 10;
/** What a terminal that is as large as it can be has of each, columns and rows. */
const MOST_CELLS = 1000;

/** A terminal that has shown something else: the ordinary screen, without the modes that programs set, cleared. */
const RESET = "\x1b[?1049l\x1b[!p\x1b[?9;1000;1002;1003;1004;1005;1006;1015;2004l\x1b[?7h\x1b[0m\x1b[H\x1b[2J";

type Event = EventOf<"shell.attach">;

export async function serveAttach(
  engine: Engine,
  input: ParsedInputOf<"shell.attach">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { shells, workspaceId } = engine.workspaces.get(input.workspace_id);
  const detached = new AbortController();
  const stop = AbortSignal.any([gone, detached.signal]);
  const tell = async (event: Event) => await reply.json(ToClient.Event, event);
  const size = sizeOf(head.terminal);
  const opened =
    input.shell_id === undefined
      ? shells.begin(
          {
            requestId: requestIdOf(head),
            cwd: input.cwd,
            ...(size ?? { cols: DEFAULT_COLS, rows: DEFAULT_ROWS }),
            mustExist: head.resume !== undefined,
          },
          (event) => void tell(event),
          { cancelled: detached.signal, stop },
        )
      : shells.get(input.shell_id);
  const viewer = new Viewer(opened, detached);
  // Its client hears what becomes of it below.
  void receive(viewer, "shell", head, requests, reply, stop, (reason) => detached.abort(reason));
  const leave = shells.use();
  try {
    const shell = await opened;
    if (input.shell_id !== undefined) {
      shell.checkRunning();
      await orAborted(shell.command.started, stop);
      if (size !== undefined) await shell.resize(size);
    }
    await tell({ type: "attached", workspace_id: workspaceId, ...shell.facts });
    await show(shell, reply, stop);
    await orAborted(shell.command.finished, stop);
    // It has not ended: this daemon goes, or the workspace was deleted, and that is what is told.
    if (!shell.command.over) await shell.command.ended;
    const output: OutputOf<"shell.attach"> = { workspace_id: workspaceId, ...shell.facts };
    await reply.json(ToClient.Output, output);
  } catch (thrown) {
    if (!gone.aborted) throw thrown;
  } finally {
    leave();
  }
}

/** Until it has ended and all is shown. Rejects with the signal's reason. */
async function show(shell: Shell, reply: Reply, stop: AbortSignal): Promise<void> {
  const { spool } = shell.command;
  let cursor = 0n;
  // What was printed before is shown as the screen that it made.
  if (spool.end > 0n) cursor = await redraw(shell, reply, stop);
  for (;;) {
    for await (const chunk of spool.read(cursor, false, stop)) {
      if (chunk.stream !== "gap") await reply.output("stdout", chunk.next, chunk.data);
      cursor = chunk.next;
      if (spool.end - cursor > BEHIND_BYTES) break;
    }
    if (spool.end - cursor > BEHIND_BYTES) {
      cursor = await redraw(shell, reply, stop);
      continue;
    }
    if (spool.finished && cursor >= spool.end) return;
    await spool.waitBeyond(cursor, stop);
    stop.throwIfAborted();
  }
}

async function redraw(shell: Shell, reply: Reply, stop: AbortSignal): Promise<bigint> {
  const { text, cursor } = await shell.redraw(stop);
  let event = RESET;
  for (let at = 0; at <= text.length; at += REDRAW_CHARACTERS) {
    event += text.slice(at, at + REDRAW_CHARACTERS);
    await reply.json(ToClient.Event, { type: "redraw", text: event } satisfies Event);
    event = "";
  }
  return cursor;
}

function sizeOf(terminal: RequestHead["terminal"]): { cols: number; rows: number } | undefined {
  if (terminal === undefined) return undefined;
  const within = (cells: number) => Math.min(Math.max(1, cells), MOST_CELLS);
  return { cols: within(terminal.columns), rows: within(terminal.rows) };
}

/** A shell as one of its viewers knows it: what ends the viewer does not end the shell. */
class Viewer implements Attachable {
  readonly started: Promise<unknown>;
  readonly #shell: Promise<Shell>;
  readonly #detached: AbortController;
  #found: Shell | undefined;

  constructor(shell: Promise<Shell>, detached: AbortController) {
    this.#shell = shell;
    this.#detached = detached;
    this.started = shell.then((found) => {
      this.#found = found;
    });
    this.started.catch(() => {});
  }

  get ended() {
    return this.#shell.then(({ command }) => command.ended);
  }

  get spool() {
    if (this.#found === undefined) throw new PyroError("INTERNAL", "A shell's output was asked for before it began.");
    return this.#found.command.spool;
  }

  get over(): boolean {
    return this.#found?.command.over ?? false;
  }

  /** Each viewer has a count of its own, so what it types goes behind what all have typed. */
  async write(_offset: bigint, data: Uint8Array, _eof: boolean, signal: AbortSignal): Promise<{ closed: boolean }> {
    const { command } = await this.#shell;
    await orAborted(command.started, signal);
    // The end of a viewer's input is that of the viewer alone.
    const { closed } = await command.put(data, false, signal);
    return { closed };
  }

  async signal(number: number): Promise<unknown> {
    return await (await this.#shell).command.signal(number, { foreground: true });
  }

  async resize(columns: number, rows: number): Promise<void> {
    const size = sizeOf({ columns, rows });
    if (size !== undefined) await (await this.#shell).resize(size);
  }

  cancel(reason: PyroError): void {
    this.#detached.abort(reason);
  }
}
