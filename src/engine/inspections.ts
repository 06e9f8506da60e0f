// All inspectors of a daemon, and the directory for what they need beside the disks they look at.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type InspectedDisks, Inspector, type InspectorContext } from "./inspector.ts";
import type { Prepared } from "./preparation.ts";
import type { Progress } from "./templates.ts";

export class Inspections {
  readonly #context: InspectorContext;
  readonly #live = new Set<Inspector>();

  constructor(context: InspectorContext) {
    this.#context = context;
  }

  /** Those that have not ended. */
  get live(): Inspector[] {
    return [...this.#live];
  }

  /** Removes what those of an earlier daemon left; the microVMs are ended by whoever takes up what there is. */
  async open(): Promise<void> {
    const { inspections } = this.#context.paths;
    await rm(inspections, { recursive: true, force: true });
    await mkdir(inspections, { mode: 0o700 });
  }

  /** See Inspector.start. */
  async start(
    prepared: Prepared,
    disks: InspectedDisks,
    signal: AbortSignal,
    progress: Progress = () => {},
  ): Promise<Inspector> {
    const inspector = await Inspector.start(this.#context, prepared, disks, signal, progress);
    this.#live.add(inspector);
    void inspector.ended.then(() => this.#live.delete(inspector));
    return inspector;
  }

  /** A directory for the work, gone after it, and with this daemon in any case. */
  async withDirectory<T>(work: (path: string) => Promise<T>): Promise<T> {
    const path = await mkdtemp(join(this.#context.paths.inspections, "work-"));
    try {
      return await work(path);
    } finally {
      await rm(path, { recursive: true, force: true });
    }
  }
}
