// `pyro workspace shell attach`: a shell in the caller's own terminal, until it ends or the detach key is pressed.
import { writeSync } from "node:fs";
import { openStream, type Stream } from "../client/stream.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, InputOf } from "../operations/table.ts";
import { type Context, Ended } from "./context.ts";
import { DEFAULT_DETACH_KEY, DetachKey } from "./detach-key.ts";
import { interruptible, lastThings } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll } from "./output.ts";
import { Progress } from "./progress.ts";
import { shellWord } from "./shell-words.ts";
import { takeTerminal, terminalSize } from "./terminal.ts";
import { TerminalModes } from "./terminal-modes.ts";
import { shellAttachView } from "./views/shell.ts";

type Input = InputOf<"shell.attach">;

/** The exit status: the shell's own, or 0 when it was left. Errors are thrown. */
export async function attachShell(
  input: Input,
  beside: Readonly<Record<string, unknown>>,
  context: Context,
): Promise<number> {
  checkTerminal(context);
  const { detach_key: key } = beside;
  return await new Attachment(input, new DetachKey(typeof key === "string" ? key : DEFAULT_DETACH_KEY), context).run();
}

/** Errors: INVALID_INPUT. */
function checkTerminal({ json }: Context): void {
  if (json) throw new PyroError("INVALID_INPUT", "A shell that is attached to has no JSON to print.");
  if (process.stdin.isTTY && process.stdout.isTTY) return;
  throw new PyroError("INVALID_INPUT", "stdin and stdout have to be a terminal to attach a shell to.", {
    hint: "Without a terminal, `pyro workspace shell open`, `shell write` and `shell read` do the same.",
  });
}

class Attachment {
  readonly #input: Input;
  readonly #key: DetachKey;
  readonly #context: Context;
  readonly #progress: Progress;
  readonly #modes = new TerminalModes();
  /** Why it was left, when the shell has not ended. */
  readonly #detached = new Ended(0, "detached");
  #shellId: string | undefined;
  #release: (() => void) | undefined;
  #drawn = false;

  constructor(input: Input, key: DetachKey, context: Context) {
    this.#input = input;
    this.#key = key;
    this.#context = context;
    this.#progress = new Progress(context);
  }

  async run(): Promise<number> {
    try {
      return await interruptible((signal) => this.#attach(signal));
    } catch (thrown) {
      this.#giveBack();
      if (thrown !== this.#detached) throw thrown;
      await this.#note(
        `detached from ${this.#shellId ?? "the shell"}, which goes on; come back with: ${this.#again()}`,
      );
      return 0;
    }
  }

  async #attach(signal: AbortSignal): Promise<number> {
    const size = terminalSize();
    const broken = new AbortController();
    const stream: Stream<"shell.attach"> = openStream(this.#context.where, "shell.attach", this.#input, {
      stdin: true,
      ...(size ? { terminal: size } : {}),
      onEvent: (event) => this.#onEvent(event, stream),
      onOutput: async (_from, data) => {
        await this.#show(data).catch((thrown) => broken.abort(thrown));
      },
    });
    // Leaving is all that an interrupt does: the shell is the workspace's.
    const leave = ({ target }: Event) => stream.leave((target as AbortSignal).reason);
    for (const one of [signal, broken.signal]) one.addEventListener("abort", leave, { once: true });
    try {
      const output = await stream.result;
      this.#giveBack();
      const { note, status = 0 } = shellAttachView(output);
      if (note !== undefined) await this.#note(note.replace(/^pyro: /, ""));
      return status;
    } finally {
      this.#progress.clear();
      process.stdin.destroy();
    }
  }

  async #onEvent(event: EventOf<"shell.attach">, stream: Stream<"shell.attach">): Promise<void> {
    if (event.type === "progress") return this.#progress.show(event);
    if (event.type === "redraw") return await this.#redraw(event.text);
    this.#progress.clear();
    this.#shellId = event.shell_id;
    // It is told again when the connection was made again.
    if (this.#release !== undefined) return;
    await this.#note(`${event.shell_id} of ${event.workspace_id}; ${this.#key.name} detaches, \`exit\` ends it`);
    this.#release = takeTerminal(({ columns, rows }) => stream.resize(columns, rows));
    lastThings.add(this.#restoreModes);
    void this.#feed(stream);
  }

  /** What the terminal showed before goes up, not away. */
  async #redraw(text: string): Promise<void> {
    if (!this.#drawn) await writeAll(STDOUT, "\r\n".repeat(terminalSize()?.rows ?? 0));
    this.#drawn = true;
    await this.#show(text);
  }

  async #show(data: Uint8Array | string): Promise<void> {
    this.#drawn = true;
    this.#modes.note(data);
    await writeAll(STDOUT, data);
  }

  async #feed(stream: Stream<"shell.attach">): Promise<void> {
    try {
      for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
        const { data, detached } = this.#key.take(chunk);
        if (data.length > 0 && !(await stream.write(data))) return;
        if (detached) return stream.leave(this.#detached);
      }
      // The terminal has gone.
      stream.leave(this.#detached);
    } catch {
      // Destroying stdin at the end reads as an abort here; what else it may be is found out by whoever reads the terminal.
      stream.leave(this.#detached);
    }
  }

  #giveBack(): void {
    if (this.#release === undefined) return;
    this.#restoreModes();
    lastThings.delete(this.#restoreModes);
    this.#release();
    this.#release = undefined;
  }

  /** At once: it may be the last thing that this process does. */
  readonly #restoreModes = (): void => {
    try {
      writeSync(STDOUT, `${this.#modes.restore}\r\n`);
    } catch {
      // The terminal has gone, or takes nothing now.
    }
  };

  #again(): string {
    return `pyro workspace shell attach ${shellWord(this.#input.workspace_id)} ${this.#shellId ?? ""}`.trimEnd();
  }

  async #note(text: string): Promise<void> {
    if (!this.#context.quiet) await writeAll(STDERR, `pyro: ${text}\n`);
  }
}
