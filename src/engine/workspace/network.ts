// The network of one workspace: what it may reach is changed here, and its decisions are read.
import { PyroError } from "../../errors/error.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { PublishedPort } from "../network.ts";
import { isWithin } from "./allow-hosts.ts";
import type { Ledger } from "./ledger.ts";
import type { Life, WorkspaceContext } from "./life.ts";
import { followNetwork, type NetworkEntry, networkEntries } from "./network-log.ts";
import { PublishedPorts } from "./published-ports.ts";
import { layoutOf } from "./record.ts";

export class WorkspaceNetwork {
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #life: Life;
  readonly ports: PublishedPorts = new PublishedPorts(
    () => this.#life.vm?.machine.vmId,
    (ports) => this.#publish(ports),
  );

  /** Aborts when the workspace is deleted. */
  readonly #deleted: AbortSignal;

  constructor(context: WorkspaceContext, ledger: Ledger, life: Life, deleted: AbortSignal) {
    this.#deleted = deleted;
    this.#context = context;
    this.#ledger = ledger;
    this.#life = life;
  }

  /**
   * Changes which hosts it may reach; connections to others are cut. It is written down first: a microVM that starts later
   * keeps to it in any case. Errors: NETWORK_OFF, POLICY_FORBIDDEN, NETWORK_FAILED.
   */
  async set({ allow_hosts, narrow_only }: ParsedInputOf<"network.set">): Promise<OutputOf<"network.set">> {
    return await this.#life.inTurn(async () => {
      const { workspace_id, network_policy, allow_hosts: before } = this.#ledger.record;
      if (network_policy === "off") {
        throw new PyroError("NETWORK_OFF", `The workspace ${workspace_id} has no network.`);
      }
      if (narrow_only && !isWithin(allow_hosts, before)) {
        throw new PyroError("POLICY_FORBIDDEN", "The workspace would reach more than it may now.");
      }
      await this.#ledger.save({ allow_hosts: [...allow_hosts] }, { durable: true });
      const { vm } = this.#life;
      const { record, directory } = this.#ledger;
      if (vm !== undefined) {
        await this.#context.networks.configure(vm, record, layoutOf(directory).network, this.ports.all);
      }
      return { workspace_id, network_policy, allow_hosts: [...record.allow_hosts] };
    });
  }

  async #publish(ports: readonly PublishedPort[]): Promise<readonly PublishedPort[]> {
    const { record, directory } = this.#ledger;
    if (record.network_policy !== "egress+published-ports") {
      throw new PyroError(
        "POLICY_FORBIDDEN",
        `The network policy of ${record.workspace_id} is ${record.network_policy}.`,
        {
          hint: "Ports are published in workspaces that are created with `--network-policy egress+published-ports`.",
        },
      );
    }
    const { vm } = this.#life;
    // Without one they are gone.
    if (vm === undefined) return [];
    return await this.#context.networks.configure(vm, record, layoutOf(directory).network, ports);
  }

  /** A page of decisions. Errors: CURSOR_INVALID. */
  async entries(options: { limit: number; cursor: string | undefined }) {
    return await networkEntries(layoutOf(this.#ledger.directory).network, options);
  }

  /** Decisions as they come, until the workspace is deleted. Errors: CURSOR_INVALID, the signal's reason. */
  follow(cursor: string | undefined, signal: AbortSignal): AsyncGenerator<NetworkEntry, void, undefined> {
    const until = AbortSignal.any([signal, this.#deleted]);
    return followNetwork(layoutOf(this.#ledger.directory).network, cursor, until);
  }
}
