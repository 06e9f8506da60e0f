// The record of one workspace: what is known now, always the same as what was last written.
import { type StoredWorkspace, writeWorkspace } from "./record.ts";

export class Ledger {
  readonly directory: string;
  #record: StoredWorkspace;

  constructor(record: StoredWorkspace, directory: string) {
    this.#record = record;
    this.directory = directory;
  }

  get record(): StoredWorkspace {
    return this.#record;
  }

  /** `durable`: it is there after a crash of the host too. On failure nothing has changed. */
  async save(change: Partial<StoredWorkspace>, options: { durable: boolean }): Promise<void> {
    const record = { ...this.#record, ...change };
    await writeWorkspace(this.directory, record, options);
    // What another call wrote meanwhile stays.
    this.#record = { ...this.#record, ...change };
  }

  /** What has happened whether or not it can be written. */
  note(change: Partial<StoredWorkspace>): void {
    this.#record = { ...this.#record, ...change };
  }
}
