// What was run in one workspace and what runs in it: commands, shells and services, which begin and end with each other.

import type { PyroError } from "../../errors/error.ts";
import type { GuestClient } from "../../guest/client.ts";
import type { CommandHost } from "./command-host.ts";
import { Commands } from "./commands.ts";
import type { Live } from "./description.ts";
import { type ServiceHost, Services } from "./services.ts";
import { Shells } from "./shells.ts";

export interface ContentsHost extends CommandHost, ServiceHost {
  /** On the host, for the shells alone. */
  readonly shellsDirectory: string;
}

type Counts = Pick<
  Live,
  "commandCount" | "lastCommand" | "serviceCount" | "runningServiceCount" | "shellCount" | "runningShellCount"
>;

export class Contents {
  readonly commands: Commands;
  readonly services: Services;
  readonly shells: Shells;

  private constructor(commands: Commands, services: Services, shells: Shells) {
    this.commands = commands;
    this.services = services;
    this.shells = shells;
  }

  /** Reads what is on disk; `adopt` is to follow. */
  static async open(host: ContentsHost): Promise<Contents> {
    const commands = await Commands.open(host);
    const shells = await Shells.open({
      workspaceId: host.workspaceId,
      processKind: "sh",
      commandsDirectory: host.shellsDirectory,
      secrets: host.secrets,
      enter: (signal, progress) => host.enter(signal, progress),
      use: () => host.use(),
    });
    return new Contents(commands, await Services.open(host), shells);
  }

  /** See Commands.adopt. */
  async adopt(machineId: string | undefined): Promise<void> {
    await Promise.all(this.#all.map((kept) => kept.adopt(machineId)));
  }

  /** See Commands.sweep. What it does not come to now is done when the next daemon takes the microVM up. Never rejects. */
  async sweep(guest: GuestClient, signal: AbortSignal): Promise<void> {
    await Promise.allSettled(this.#all.map((kept) => kept.sweep(guest, signal)));
  }

  /** See Commands.lose. */
  async lose(why: string): Promise<void> {
    await Promise.all(this.#all.map((kept) => kept.lose(why)));
  }

  /** See Commands.release. */
  async release(): Promise<void> {
    await Promise.all(this.#all.map((kept) => kept.release()));
  }

  /** The workspace is deleted, or begins anew. Resolves when nothing writes into their directories any more. */
  async abandon(reason: PyroError): Promise<void> {
    await Promise.all(this.#all.map((kept) => kept.abandon(reason)));
  }

  get #all(): readonly [Commands, Shells, Services] {
    return [this.commands, this.shells, this.services];
  }
}

/** How many there are of each; none of a workspace whose record cannot be used. */
export function countsOf(contents: Contents | undefined): Counts {
  return {
    commandCount: contents?.commands.count ?? 0,
    lastCommand: contents?.commands.last ?? null,
    serviceCount: contents?.services.count ?? 0,
    runningServiceCount: contents?.services.running ?? 0,
    shellCount: contents?.shells.count ?? 0,
    runningShellCount: contents?.shells.running ?? 0,
  };
}
