// Secrets that never go into a guest: it is given placeholders, and netd puts the values into requests to the hosts that each
// is for (go/internal/broker). Here is what netd is told, and what a placeholder and a host look like.
import { randomBytes } from "node:crypto";
import type { Authority } from "./authority.ts";

/** What netd is told: a Config of go/internal/broker, but for the further authorities. */
export interface BrokerConfig {
  readonly authority: Authority;
  readonly secrets: readonly {
    readonly name: string;
    readonly placeholder: string;
    /** Base64. */
    readonly value: string;
    readonly hosts: readonly string[];
  }[];
}

/** In front of a host that may have a secret without TLS too. */
const PLAIN = "http://";

export function newPlaceholder(): string {
  return `pyro-secret-${randomBytes(16).toString("hex")}`;
}

/** A host as it is named in a list, without what is said of how it may be reached. */
export function nameOf(host: string): string {
  return host.startsWith(PLAIN) ? host.slice(PLAIN.length) : host;
}
