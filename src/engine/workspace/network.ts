// The network of one workspace: what it may reach is changed here, and its decisions are read.
import { PyroError } from "../../errors/error.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { MicroVm } from "../microvm.ts";
import type { PublishedPort } from "../network.ts";
import type { Secrets } from "../secrets/secrets.ts";
import { isWithin } from "./allow-hosts.ts";
import { toldSecrets } from "./description.ts";
import type { Ledger } from "./ledger.ts";
import type { Life, WorkspaceContext } from "./life.ts";
import { followNetwork, type NetworkEntry, networkEntries } from "./network-log.ts";
import { PublishedPorts } from "./published-ports.ts";
import { layoutOf, storedSecrets } from "./record.ts";

export class WorkspaceNetwork {
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #life: Life;
  readonly #secrets: Secrets;
  readonly ports: PublishedPorts = new PublishedPorts(
    () => this.#life.vm?.machine.vmId,
    (ports) => this.#publish(ports),
  );

  /** Aborts when the workspace is deleted. */
  readonly #deleted: AbortSignal;

  constructor(context: WorkspaceContext, ledger: Ledger, life: Life, secrets: Secrets, deleted: AbortSignal) {
    this.#secrets = secrets;
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
      await this.#apply();
      return { workspace_id, network_policy, allow_hosts: [...this.#ledger.record.allow_hosts] };
    });
  }

  /**
   * Gives secrets that it brokers new values: requests that begin later have those. They are written down first. Errors: those
   * of Secrets.replace, NETWORK_FAILED.
   */
  async setSecrets({ secrets: given }: ParsedInputOf<"secret.set">): Promise<OutputOf<"secret.set">> {
    return await this.#life.inTurn(async () => {
      this.#deleted.throwIfAborted();
      await this.#secrets.replace(layoutOf(this.#ledger.directory).secrets, given);
      const secrets = storedSecrets(this.#secrets.facts);
      await this.#ledger.save({ secrets }, { durable: true });
      await this.#apply();
      return { workspace_id: this.#ledger.record.workspace_id, secrets: toldSecrets(secrets) };
    });
  }

  /** In its turn: has a microVM that runs keep to what is written down by now. Errors: NETWORK_FAILED. */
  async #apply(): Promise<void> {
    const { vm } = this.#life;
    if (vm !== undefined) await this.#configure(vm, this.ports.all);
  }

  async #configure(vm: MicroVm, ports: readonly PublishedPort[]): Promise<readonly PublishedPort[]> {
    const { record, directory } = this.#ledger;
    return await this.#context.networks.configure(vm, record, this.#secrets, layoutOf(directory).network, ports);
  }

  async #publish(ports: readonly PublishedPort[]): Promise<readonly PublishedPort[]> {
    const { record } = this.#ledger;
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
    return await this.#configure(vm, ports);
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
