// The ports of one workspace's services that the host has. netd owns the listeners, so that they outlive the daemon; here
// is only known which service has which, and netd is told all of them at once.
import { Turns } from "../../abort/turns.ts";
import { PyroError } from "../../errors/error.ts";
import type { PublishedPort } from "../network.ts";

/** What a service asks for: host port 0 is any that is free. */
export type WantedPort = PublishedPort;

/** Has the network open exactly these, and resolves with those that are open. Errors: PORT_TAKEN, those of the network. */
export type OpenPorts = (ports: readonly PublishedPort[]) => Promise<readonly PublishedPort[]>;

export class PublishedPorts {
  readonly #open: OpenPorts;
  /** By the number of the service. */
  readonly #held = new Map<number, readonly PublishedPort[]>();
  readonly #turns = new Turns();
  readonly #machine: () => string | undefined;
  /** Of the microVM that they were opened for. */
  #of: string | undefined;

  /** `machine` names the microVM that runs: another one has none of what an earlier one had. */
  constructor(machine: () => string | undefined, open: OpenPorts) {
    this.#machine = machine;
    this.#open = open;
  }

  /** All that are open. */
  get all(): readonly PublishedPort[] {
    this.#forgetOthers();
    return [...this.#held.values()].flat();
  }

  /** Opens a service's. On failure nothing more is open than before. Errors: PORT_TAKEN, POLICY_FORBIDDEN, NETWORK_FAILED. */
  async open(sequence: number, wanted: readonly WantedPort[]): Promise<readonly PublishedPort[]> {
    return await this.#turns.take(async () => {
      const before = this.all;
      const taken = wanted.find(
        ({ host_port }) => host_port !== 0 && before.some((one) => one.host_port === host_port),
      );
      if (taken !== undefined) {
        throw new PyroError(
          "PORT_TAKEN",
          `The port ${taken.host_port} of the host is that of another service of this workspace.`,
        );
      }
      const open = await this.#open([...before, ...wanted]);
      const fresh = open.filter(({ host_port }) => !before.some((one) => one.host_port === host_port));
      if (fresh.length !== wanted.length) {
        throw new PyroError("NETWORK_FAILED", "The network did not open the ports that it was asked for.");
      }
      // Said once more with the numbers that were given, which is what a netd that is started anew is told.
      if (wanted.some(({ host_port }) => host_port === 0)) await this.#open([...before, ...fresh]);
      this.#held.set(sequence, fresh);
      return fresh;
    });
  }

  /** Of one that another daemon started: they are open. */
  keep(sequence: number, ports: readonly PublishedPort[]): void {
    this.#forgetOthers();
    if (ports.length > 0) this.#held.set(sequence, ports);
  }

  #forgetOthers(): void {
    const now = this.#machine();
    if (now !== this.#of) this.#held.clear();
    this.#of = now;
  }

  /** Closes a service's, with the connections over them. Never rejects: where the network does not answer they are gone with it. */
  async close(sequence: number): Promise<void> {
    if (!this.#held.has(sequence)) return;
    await this.#turns
      .take(async () => {
        this.#held.delete(sequence);
        await this.#open(this.all);
      })
      .catch(() => {});
  }
}

/** What was typed, as numbers. Errors: INVALID_INPUT. */
export function wantedPorts(texts: readonly string[] | undefined): WantedPort[] {
  const ports = (texts ?? []).map((text) => {
    const [guest = "", host = "0"] = text.split(":").reverse();
    const port = { host_port: Number(host), guest_port: Number(guest) };
    if (port.guest_port < 1 || port.guest_port > 65_535) throw wrong(text, "a port of the guest is from 1 to 65535");
    const chosen = text.includes(":");
    if (chosen && (port.host_port < 1024 || port.host_port > 65_535)) {
      throw wrong(text, "a port of the host is from 1024 to 65535");
    }
    return port;
  });
  const chosen = ports.flatMap(({ host_port }) => (host_port === 0 ? [] : [host_port]));
  if (new Set(chosen).size < chosen.length) {
    throw new PyroError("INVALID_INPUT", "A port of the host can be published once.");
  }
  return ports;
}

function wrong(text: string, why: string): PyroError {
  return new PyroError("INVALID_INPUT", `${text} cannot be published: ${why}.`);
}
