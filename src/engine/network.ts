// The networks of microVMs: who has one, what netd is told, and what the guest is. Packets pass from the guest to netd
// without the daemon; here is only said how.
import { readFile } from "node:fs/promises";
import * as z from "zod";
import { PyroError } from "../errors/error.ts";
import type { Launcher } from "../launcher/launcher.ts";
import type { NetworkPolicy } from "../operations/fields.ts";
import type { MicroVm } from "./microvm.ts";
import { type Authority, makeAuthority } from "./secrets/authority.ts";
import type { Secrets } from "./secrets/secrets.ts";
import type { Settings } from "./settings.ts";

const RESOLVER_FILE = "/etc/resolv.conf";
const MOST_SERVERS = 8;
const GUEST_MS = 60_000;
const MIB = 2 ** 20;

/** What go/internal/netd has at the other end. Every microVM has a network of its own, so all have the same. */
const GUEST = {
  addresses: ["10.213.0.2/24", "fd70:7972:6f00::2/64"],
  routes: ["0.0.0.0/0", "::/0"],
  nameServers: ["10.213.0.1"],
  mtu: 65_520,
};

/** What a run or a workspace asks of its network. */
export interface NetworkWish {
  readonly network_policy: NetworkPolicy;
  readonly allow_hosts: readonly string[];
}

/** A port of the guest that the host has. */
export interface PublishedPort {
  readonly host_port: number;
  readonly guest_port: number;
}

const port = z.object({ host_port: z.int().min(0).max(65_535), guest_port: z.int().min(0).max(65_535) });

/** What netd answers. It is confined, and may have been taken over by a guest. */
const report = z.object({
  error: z.string().max(1000).optional(),
  port_taken: z.int().optional(),
  published: z.array(port).max(1024),
  published_connections: z.int(),
  published_total: z.int(),
});

/** What of the user's settings the networks go by. */
export type NetworkSettings = Pick<
  Settings,
  "networkNamespace" | "nameServers" | "publicRanges" | "networkMibPerSecond" | "brokerAuthorities"
>;

export class Networks {
  readonly #launcher: Launcher;
  readonly #program: string;
  readonly #settings: NetworkSettings;
  /** Connections to published ports, when a microVM's were last looked at. */
  readonly #reached = new WeakMap<MicroVm, number>();

  constructor(launcher: Launcher, program: string, settings: NetworkSettings) {
    this.#launcher = launcher;
    this.#program = program;
    this.#settings = settings;
  }

  /**
   * Gives a microVM its network, if it is to have one, before anything of its own runs in it. `logDirectory` gets the
   * decisions. Errors: NETWORK_FAILED, those of the guest client and the launcher.
   */
  async connect(vm: MicroVm, wish: NetworkWish, secrets: Secrets, logDirectory: string | undefined): Promise<void> {
    if (wish.network_policy === "off") return;
    // The guest first: until it has a device its net port carries no packets.
    await vm.guest.call((calls, call) => calls.setNetwork(GUEST, call), { timeoutMs: GUEST_MS });
    await this.configure(vm, wish, secrets, logDirectory, []);
  }

  /**
   * Tells the network of a microVM what it lets through from now on, which secrets it brokers, and which ports the host is to
   * have; resolves with those that it has. Errors: NETWORK_FAILED, PORT_TAKEN, those of the launcher.
   */
  async configure(
    vm: MicroVm,
    wish: NetworkWish,
    { broker }: Secrets,
    logDirectory: string | undefined,
    publish: readonly PublishedPort[],
  ): Promise<readonly PublishedPort[]> {
    const { nameServers, publicRanges, networkMibPerSecond } = this.#settings;
    const config = {
      allow_hosts: wish.allow_hosts,
      public: publicRanges ?? [],
      resolvers: nameServers ?? (await hostsServers()),
      publish,
      bytes_per_second: networkMibPerSecond * MIB,
      ...(broker === undefined ? {} : { broker: { ...broker, roots: await this.#moreAuthorities() } }),
    };
    const { error, port_taken, published } = await this.#tell(vm, logDirectory, JSON.stringify(config));
    if (port_taken !== undefined) throw new PyroError("PORT_TAKEN", `The port ${port_taken} of the host is taken.`);
    if (error !== undefined) throw new PyroError("NETWORK_FAILED", `The network refuses its policy: ${error}`);
    return published;
  }

  /** What a guest is to trust of netd, which ends its TLS to these hosts. Errors: NETWORK_FAILED. */
  async makeAuthority(hosts: readonly string[]): Promise<Authority> {
    return await makeAuthority(this.#program, hosts);
  }

  /** PEM; empty for none. Errors: NETWORK_FAILED. */
  async #moreAuthorities(): Promise<string> {
    const { brokerAuthorities: path } = this.#settings;
    if (path === undefined) return "";
    return await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      const message = `The authorities in ${path} cannot be read: ${error.code ?? error.message}.`;
      throw new PyroError("NETWORK_FAILED", message, {
        hint: "PYRO_BROKER_AUTHORITIES names a file of certificates, PEM; mend it, or unset it and restart the daemon.",
      });
    });
  }

  /** Whether a published port is connected to, or was since this was last asked. False where nobody can tell. */
  async isReached(vm: MicroVm, { network_policy }: NetworkWish): Promise<boolean> {
    if (network_policy !== "egress+published-ports") return false;
    try {
      const { published_connections, published_total } = await this.#tell(vm, undefined, "");
      const before = this.#reached.get(vm) ?? 0;
      this.#reached.set(vm, published_total);
      return published_connections > 0 || published_total !== before;
    } catch {
      return false;
    }
  }

  async #tell(vm: MicroVm, logDirectory: string | undefined, config: string): Promise<z.infer<typeof report>> {
    const { vmId, vsockSocket } = vm.machine;
    const { networkNamespace, nameServers } = this.#settings;
    const answer = await this.#launcher.call((calls, options) =>
      calls.connectNet(
        {
          vmId,
          program: this.#program,
          vsockSocket: vsockSocket ?? "",
          networkNamespace: networkNamespace ?? "",
          logDirectory: logDirectory ?? "",
          config,
          // It outlives this daemon, and follows the file.
          resolverFile: nameServers === undefined ? RESOLVER_FILE : "",
        },
        options,
      ),
    );
    return parseReport(answer.report);
  }
}

/** What is asked for. Errors: INVALID_INPUT for hosts that a network which is off would have to reach. */
export function wishOf(input: {
  readonly network_policy: NetworkPolicy;
  readonly allow_hosts?: readonly string[] | undefined;
}): NetworkWish {
  const allow_hosts = input.allow_hosts ?? [];
  if (input.network_policy === "off" && allow_hosts.length > 0) {
    throw new PyroError("INVALID_INPUT", "Hosts to allow were named, and the network policy is off.", {
      hint: "Name the policy too: `--network-policy egress`.",
    });
  }
  return { network_policy: input.network_policy, allow_hosts };
}

function parseReport(text: string): z.infer<typeof report> {
  try {
    return report.parse(JSON.parse(text));
  } catch (error) {
    throw new PyroError("NETWORK_FAILED", "The network's answer cannot be understood.", { cause: error });
  }
}

/** The name servers of the host, as they are now. */
async function hostsServers(): Promise<string[]> {
  const text = await readFile(RESOLVER_FILE, "utf8").catch(() => "");
  const servers = [...text.matchAll(/^[ \t]*nameserver[ \t]+([0-9A-Fa-f:.]+)[ \t]*$/gm)].map(
    ([, server]) => server ?? "",
  );
  return servers.slice(0, MOST_SERVERS);
}
