// The record of one workspace: what is known now, always the same as what was last written.
import { type StoredWorkspace, writeWorkspace } from "./record.ts";

export class Ledger {
  readonly directory: string;
  #record: StoredWorkspace;
  #last: Promise<unknown> = Promise.resolve();

  constructor(record: StoredWorkspace, directory: string) {
    this.#record = record;
    this.directory = directory;
  }

  get record(): StoredWorkspace {
    return this.#record;
  }

  /** `durable`: it is there after a crash of the host too. On failure nothing has changed. */
  async save(change: Partial<StoredWorkspace>, options: { durable: boolean }): Promise<void> {
    // One after the other: of two at once the file would have the change of one alone.
    const saved = this.#last.then(async () => {
      await writeWorkspace(this.directory, { ...this.#record, ...change }, options);
      this.#record = { ...this.#record, ...change };
    });
    this.#last = saved.catch(() => {});
    await saved;
  }

  /** What has happened whether or not it can be written. */
  note(change: Partial<StoredWorkspace>): void {
    this.#record = { ...this.#record, ...change };
  }
}
