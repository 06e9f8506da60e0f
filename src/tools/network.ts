// The most that tools may ask of a network: what the server was started with, and nothing that widens it.
import { PyroError } from "../errors/error.ts";
import { NETWORK_POLICIES, type NetworkPolicy } from "../operations/fields.ts";
import type { OperationName } from "../operations/table.ts";

/** An input as it may be sent. Errors: POLICY_FORBIDDEN. */
export function withinPolicy(
  name: OperationName,
  input: Record<string, unknown>,
  most: NetworkPolicy,
): Record<string, unknown> {
  if (name === "network.set") return { ...input, narrow_only: true };
  const asked = NETWORK_POLICIES.find((policy) => policy === input.network_policy);
  if (asked !== undefined && NETWORK_POLICIES.indexOf(asked) > NETWORK_POLICIES.indexOf(most)) {
    throw new PyroError(
      "POLICY_FORBIDDEN",
      `network_policy ${asked} is more than this server allows, which is ${most}.`,
    );
  }
  return input;
}
