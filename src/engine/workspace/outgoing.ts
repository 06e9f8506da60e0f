// What leaves a workspace: what was changed in it, and its files.
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { Progress } from "../templates.ts";
import { type ChangesSink, compareChanges } from "./changes.ts";
import type { CommandHost } from "./command-host.ts";
import { exportArchive } from "./export.ts";
import { pathOf } from "./file-input.ts";
import type { StoredWorkspace } from "./record.ts";
import { RedactedChanges } from "./redacted-changes.ts";

/** What it needs of the workspace. */
type OutgoingHost = Pick<CommandHost, "workspaceId" | "enter" | "secrets">;

/** Where a call's answer goes, and how it ends. */
export interface Calling {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

export class Outgoing {
  readonly #host: OutgoingHost;
  readonly #baseline: () => StoredWorkspace["baseline"];

  /** `baseline` says what it is compared with. */
  constructor(host: OutgoingHost, baseline: () => StoredWorkspace["baseline"]) {
    this.#host = host;
    this.#baseline = baseline;
  }

  /** Errors: PATH_OUTSIDE, those of entering the workspace and of compareChanges, what the sink throws. */
  async diff(
    input: ParsedInputOf<"workspace.diff">,
    sink: ChangesSink,
    { progress, signal }: Calling,
  ): Promise<OutputOf<"workspace.diff">> {
    const paths = (input.paths ?? []).map((path) => pathOf(path).bytes);
    const limits = { maxBytes: input.max_transfer_mib * 2 ** 20 };
    const { guest, leave } = await this.#host.enter(signal, progress);
    try {
      const request = { baseline: { disk: this.#baseline() === "disk" }, paths, stat: input.stat };
      const shown = new RedactedChanges(sink, this.#host.secrets.redactor);
      const summary = await compareChanges(guest, request, limits, shown, signal);
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
    } finally {
      leave();
    }
  }

  /** Errors: PATH_OUTSIDE, those of entering the workspace and of exportArchive, what the sink throws. */
  async export(
    input: ParsedInputOf<"workspace.export">,
    sink: (bytes: Uint8Array) => Promise<void>,
    { progress, signal }: Calling,
  ): Promise<OutputOf<"workspace.export">> {
    const path = pathOf(input.path);
    const limits = { maxBytes: input.max_transfer_mib * 2 ** 20, maxEntries: input.max_entries };
    const { guest, leave } = await this.#host.enter(signal, progress);
    try {
      const exported = await exportArchive(guest, { path: path.bytes }, limits, sink, signal);
      return {
        workspace_id: this.#host.workspaceId,
        workspace_path: path.absolute,
        output_path: input.output_path,
        ...exported,
      };
    } finally {
      leave();
    }
  }
}
