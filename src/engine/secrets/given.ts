// Secrets as a workspace or a run is asked for with them: which are brokered, for whom, and whether its network lets that be.
import { PyroError } from "../../errors/error.ts";
import { secretForOf } from "../../operations/secret-rules.ts";
import type { InputOf } from "../../operations/table.ts";
import type { NetworkWish } from "../network.ts";
import { isWithin } from "../workspace/allow-hosts.ts";
import { nameOf } from "./brokered.ts";
import { Secrets } from "./secrets.ts";

type Asked = Pick<InputOf<"workspace.create">, "secrets" | "secret_for">;

/** Errors: those of Secrets.given and of brokeredHosts. */
export function givenSecrets({ secrets = [], secret_for }: Asked, wish: NetworkWish): Secrets {
  const names = secrets.map(({ name }) => name);
  return Secrets.given(secrets, brokeredHosts(secret_for, names, wish));
}

/**
 * Which hosts each of these secrets is for. Errors: SECRET_INVALID for one that is named twice, SECRET_UNKNOWN for one that
 * is not given, SECRET_HOST_FORBIDDEN where the network would not let it be used.
 */
function brokeredHosts(
  words: readonly string[] | undefined,
  names: readonly string[],
  wish: NetworkWish,
): ReadonlyMap<string, readonly string[]> {
  const hosts = new Map(Object.entries(secretForOf(words ?? [])));
  for (const [name, list] of hosts) {
    if (!names.includes(name)) {
      throw new PyroError("SECRET_UNKNOWN", `Hosts were named for the secret ${name}, which was not given.`, {
        details: { secrets: [...names] },
      });
    }
    if (wish.network_policy === "off") {
      throw new PyroError("SECRET_HOST_FORBIDDEN", `The secret ${name} is for hosts, and the network policy is off.`, {
        hint: "Name the policy too: `--network-policy egress`.",
      });
    }
    const closed = list.find((host) => !isWithin([nameOf(host)], wish.allow_hosts));
    if (closed !== undefined) {
      throw new PyroError(
        "SECRET_HOST_FORBIDDEN",
        `The secret ${name} is for ${nameOf(closed)}, which is not on the allow-list.`,
      );
    }
  }
  return hosts;
}
