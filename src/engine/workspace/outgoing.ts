// What leaves a workspace: what was changed in it, and its files.
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { Progress } from "../templates.ts";
import { type ChangesSink, compareChanges } from "./changes.ts";
import type { CommandHost } from "./command-host.ts";
import { exportArchive } from "./export.ts";
import { pathOf } from "./file-input.ts";
import type { OutgoingGuest } from "./outgoing-pieces.ts";
import { RedactedChanges } from "./redacted-changes.ts";
import type { StoppedDisk } from "./stopped-disk.ts";

/** What it needs of the workspace. */
interface OutgoingHost extends Pick<CommandHost, "workspaceId" | "enter" | "secrets"> {
  readonly disk: StoppedDisk;
}

/** Where a call's answer goes, and how it ends. */
export interface Calling {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

export class Outgoing {
  readonly #host: OutgoingHost;

  constructor(host: OutgoingHost) {
    this.#host = host;
  }

  /** Errors: PATH_OUTSIDE, those of entering the workspace and of compareChanges, what the sink throws. */
  async diff(
    input: ParsedInputOf<"workspace.diff">,
    sink: ChangesSink,
    { progress, signal }: Calling,
  ): Promise<OutputOf<"workspace.diff">> {
    const paths = (input.paths ?? []).map((path) => pathOf(path).bytes);
    const limits = { maxBytes: input.max_transfer_mib * 2 ** 20 };
    const request = { baseline: { disk: this.#host.disk.record.baseline === "disk" }, paths, stat: input.stat };
    return await this.#withGuest({ progress, signal, long: false }, async (guest, until) => {
      const shown = new RedactedChanges(sink, this.#host.secrets.redactor);
      const summary = await compareChanges(guest, request, limits, shown, until);
      await shown.end();
      return {
        workspace_id: this.#host.workspaceId,
        changed: summary.total > 0,
        summary,
        // They were events, and output.
        entries: [],
        entries_truncated: false,
        patch: "",
        patch_encoding: "utf-8",
        patch_truncated: false,
        redacted: shown.redacted,
        output_path: input.output_path ?? null,
      };
    });
  }

  /** What was changed, without patches, and without starting one that is stopped. Errors: as those of diff. */
  async count(sink: ChangesSink, { progress, signal }: Calling): Promise<void> {
    const request = { baseline: { disk: this.#host.disk.record.baseline === "disk" }, paths: [], stat: true };
    await this.#withGuest({ progress, signal, long: false, start: false }, async (guest, until) => {
      await compareChanges(guest, request, { maxBytes: 0 }, sink, until);
    });
  }

  /** Errors: PATH_OUTSIDE, those of entering the workspace and of exportArchive, what the sink throws. */
  async export(
    input: ParsedInputOf<"workspace.export">,
    sink: (bytes: Uint8Array) => Promise<void>,
    { progress, signal }: Calling,
  ): Promise<OutputOf<"workspace.export">> {
    const path = pathOf(input.path);
    const limits = { maxBytes: input.max_transfer_mib * 2 ** 20, maxEntries: input.max_entries };
    return await this.#withGuest({ progress, signal, long: true }, async (guest, until) => {
      const exported = await exportArchive(guest, { path: path.bytes }, limits, sink, until);
      return {
        workspace_id: this.#host.workspaceId,
        workspace_path: path.absolute,
        output_path: input.output_path,
        ...exported,
      };
    });
  }

  /**
   * One that was stopped by somebody stays so: its disks are looked at, and with `long` a start meanwhile is refused. Any
   * other is started when it has to be, unless `start` says that it is not worth it.
   */
  async #withGuest<T>(
    { progress, signal, long, start = true }: Calling & { readonly long: boolean; readonly start?: boolean },
    work: (guest: OutgoingGuest, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { disk } = this.#host;
    const { state, stop_reason } = disk.record;
    if (state !== "started" && (!start || (state === "stopped" && stop_reason === "stopped"))) {
      return await disk.inspect({ long, progress }, signal, ({ guest }, until) => work(guest, until));
    }
    const { guest, leave } = await this.#host.enter(signal, progress);
    try {
      return await work(guest, signal);
    } finally {
      leave();
    }
  }
}
