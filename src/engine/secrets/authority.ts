// The authority of a workspace or run whose secrets are brokered: its certificate is what the guest trusts, its key what netd
// signs for the listed hosts with. Made once by netd's program, which can make certificates, and kept beside the values.
import { execFile } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import * as z from "zod";
import { PyroError } from "../../errors/error.ts";

/** No secret's name has a dot. */
const FILE = "authority.json";
const MAKING_MS = 30_000;
const MOST_BYTES = 16 << 10;
/** Of a host's list, what a guest is given of it: bytes. */
const MOST_LIST_BYTES = 4 << 20;

/** Where a host keeps its list of authorities: the first that is there. As in go/internal/confine/network.go. */
const LISTS = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/pki/tls/cacert.pem",
  "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** In the guest; go/internal/trust makes both. The first is the authority alone, the second all that are trusted. */
const OWN_FILE = "/run/pyro/trust/authority.pem";
const ALL_FILE = "/run/pyro/trust/bundle.pem";

/**
 * What has programs read those files that do not read the system's list, or where there is none: OpenSSL and all that use it
 * (curl, Python), Node with npm, Python's requests with pip, git.
 */
export const TRUST_VARIABLES: Readonly<Record<string, string>> = {
  SSL_CERT_FILE: ALL_FILE,
  NODE_EXTRA_CA_CERTS: OWN_FILE,
  REQUESTS_CA_BUNDLE: ALL_FILE,
  GIT_SSL_CAINFO: ALL_FILE,
};

const authority = z.object({
  certificate: z.string().startsWith("-----BEGIN CERTIFICATE-----").max(MOST_BYTES),
  key: z.string().startsWith("-----BEGIN PRIVATE KEY-----").max(MOST_BYTES),
});

/** Both PEM. */
export type Authority = Readonly<z.infer<typeof authority>>;

/** One that can sign for these hosts and no others. `program` is netd's. Errors: NETWORK_FAILED. */
export async function makeAuthority(program: string, hosts: readonly string[]): Promise<Authority> {
  try {
    const options = { timeout: MAKING_MS, maxBuffer: 4 * MOST_BYTES, env: {} };
    const { stdout } = await promisify(execFile)(program, ["-authority", hosts.join(",")], options);
    return authority.parse(JSON.parse(stdout));
  } catch {
    // What it printed may hold a key.
    throw new PyroError("NETWORK_FAILED", "The authority that the guest is to trust could not be made.");
  }
}

/** Into a directory where none is. */
export async function storeAuthority(directory: string, made: Authority): Promise<void> {
  await using file = await open(join(directory, FILE), "wx", 0o600);
  await file.writeFile(JSON.stringify(made));
  await file.sync();
}

/** Errors: HOST_IO_FAILED for one that is not there as it was stored. */
export async function loadAuthority(directory: string): Promise<Authority> {
  try {
    return authority.parse(JSON.parse(await readFile(join(directory, FILE), "utf8")));
  } catch {
    throw new PyroError("HOST_IO_FAILED", "The authority for the workspace's brokered secrets is not there any more.");
  }
}

/** The authorities that this host trusts, PEM; empty where it has no list. For images that have none of their own. */
export async function hostsAuthorities(): Promise<Buffer> {
  for (const path of LISTS) {
    const list = await readFile(path).catch(() => undefined);
    if (list !== undefined) return list.length > MOST_LIST_BYTES ? Buffer.alloc(0) : list;
  }
  return Buffer.alloc(0);
}
