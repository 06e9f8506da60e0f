// What was pushed into a workspace and brought out of it since it was created or reset: how often, and the last few of each.
// It is beside what it tells of: a push or an export that cannot be remembered has still been made.
import type * as z from "zod";
import type { exportFacts, pushFacts } from "../../operations/summary.ts";
import type { Ledger } from "./ledger.ts";
import type { StoredWorkspace } from "./record.ts";

export type Pushed = z.infer<z.ZodObject<typeof pushFacts>>;
export type Exported = z.infer<z.ZodObject<typeof exportFacts>>;
type Stored = NonNullable<StoredWorkspace["exchanges"]>;

/** How many of each are remembered. */
const LAST = 6;

export class Exchanges {
  readonly #ledger: Ledger;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  get stored(): Stored {
    return this.#ledger.record.exchanges ?? { push_count: 0, pushes: [], export_count: 0, exports: [] };
  }

  async pushed(push: Omit<Pushed, "pushed_at">): Promise<void> {
    const { push_count, pushes, ...rest } = this.stored;
    const one = { ...push, pushed_at: new Date().toISOString() };
    await this.#keep({ ...rest, push_count: push_count + 1, pushes: [...pushes, one].slice(-LAST) });
  }

  async exported(made: Omit<Exported, "exported_at">): Promise<void> {
    const { export_count, exports, ...rest } = this.stored;
    const one = { ...made, exported_at: new Date().toISOString() };
    await this.#keep({ ...rest, export_count: export_count + 1, exports: [...exports, one].slice(-LAST) });
  }

  async #keep(exchanges: Stored): Promise<void> {
    this.#ledger.note({ exchanges });
    await this.#ledger.save({}, { durable: false }).catch(() => {});
  }
}
