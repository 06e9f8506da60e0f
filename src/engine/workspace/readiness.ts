// Whether a service is ready: what was asked for as something to look at, and looking, again and again, from inside the
// guest. How often and how long is decided here: a guest that is silent, or lies, holds nobody up.
import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { PyroError } from "../../errors/error.ts";
import type { ProbeReadinessRequestSchema } from "../../gen/pyro/guest/v1/guest_pb.js";
import type { GuestClient } from "../../guest/client.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { ParsedInputOf } from "../../operations/table.ts";
import type { ProcessSpec } from "../process-spec.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { StoredService } from "./service-record.ts";

/** Longest that one look may take, and the least that the last one is given, ms. */
const LONGEST_LOOK_MS = 10_000;
const LEAST_LOOK_MS = 1000;
/** How much later than the guest the host gives a look up, ms. */
const GRACE_MS = 5000;
/** Longest reason that is believed of a guest, characters. */
const MAX_REASON = 1000;
/** Longest that is looked at, so that a secret in it is not cut, characters. */
const MOST_REASON = 1 << 20;
const HIGHEST_PORT = 65_535;

type Probe = NonNullable<StoredService["probe"]>;
type Look = NonNullable<MessageInitShape<typeof ProbeReadinessRequestSchema>["probe"]>;
type Asked = Pick<ParsedInputOf<"service.start">, "ready_file" | "ready_tcp" | "ready_http" | "ready_command">;

/** What is asked for, null when nothing is. Errors: INVALID_INPUT for what can never be ready. */
export function probeOf(asked: Asked): Probe | null {
  const { ready_file: file, ready_tcp: tcp, ready_http: http, ready_command: command } = asked;
  if ([file, tcp, http, command].filter((one) => one !== undefined).length > 1) {
    throw new PyroError("INVALID_INPUT", "A service has one of ready_file, ready_tcp, ready_http and ready_command.");
  }
  if (file !== undefined) {
    // A path that ends in one names nothing else.
    return { type: "file", target: posix.resolve(WORKSPACE_PATH, withoutZero("ready_file", file)) };
  }
  if (tcp !== undefined) {
    checkPort("ready_tcp", tcp.slice(tcp.lastIndexOf(":") + 1));
    return { type: "tcp", target: withoutZero("ready_tcp", tcp) };
  }
  if (http !== undefined) return { type: "http", target: urlOf(http) };
  return command === undefined ? null : { type: "command", target: withoutZero("ready_command", command) };
}

function urlOf(text: string): string {
  const url = URL.parse(text);
  if (url === null || url.hostname === "") throw invalid("ready_http", `${text} is no URL`);
  if (url.username !== "" || url.password !== "") throw invalid("ready_http", "it takes no user and no password");
  if (url.port !== "") checkPort("ready_http", url.port);
  return url.href;
}

function checkPort(key: string, digits: string): void {
  const port = Number(digits);
  if (!(port >= 1 && port <= HIGHEST_PORT)) throw invalid(key, `there is no port ${digits}, only 1 to ${HIGHEST_PORT}`);
}

function withoutZero(key: string, text: string): string {
  if (text.includes("\0")) throw invalid(key, "it holds a zero byte");
  return text;
}

function invalid(key: string, message: string): PyroError {
  return new PyroError("INVALID_INPUT", `${key}: ${message}.`, { details: { issues: [{ path: key, message }] } });
}

export interface Looking {
  readonly probe: Probe;
  /** The service's process: a command that is to say whether it is ready has its directory and variables. */
  readonly spec: ProcessSpec;
  readonly secrets: Secrets;
  readonly intervalMs: number;
  /** When it is too late, ms since 1970. One look is made in any case. */
  readonly deadline: number;
  /** Told why it is not ready, after each look. */
  readonly noted: (reason: string) => void;
}

/**
 * Looks until it is ready, or until the deadline: true when it is. While the guest is known to stand still no time
 * passes. Rejects with the signal's reason, and as the guest client does when the microVM is gone.
 */
export async function untilReady(guest: GuestClient, looking: Looking, signal: AbortSignal): Promise<boolean> {
  let { deadline } = looking;
  for (;;) {
    const began = Date.now();
    if (guest.isHeld) {
      await guest.untilMoving(signal);
      deadline += Date.now() - began;
    }
    const reason = await look(guest, looking, deadline - Date.now(), signal);
    signal.throwIfAborted();
    if (reason === undefined) return true;
    looking.noted(reason);
    const left = deadline - Date.now();
    if (left <= 0 && !guest.isHeld) return false;
    await sleep(Math.max(0, Math.min(looking.intervalMs, left)), undefined, { signal, ref: false });
  }
}

/** Undefined when it is ready, else why not. */
async function look(
  guest: GuestClient,
  { probe, spec, secrets }: Looking,
  leftMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const most = Math.ceil(Math.max(LEAST_LOOK_MS, Math.min(LONGEST_LOOK_MS, leftMs)));
  const request = { timeoutMilliseconds: BigInt(most), probe: lookOf(probe, spec, secrets) };
  try {
    const { ready, reason } = await guest.call((calls, options) => calls.probeReadiness(request, options), {
      timeoutMs: most + GRACE_MS,
      signal,
    });
    // Before it is cut: it may hold the output of a command.
    return ready ? undefined : secrets.redactor.text(reason.slice(0, MOST_REASON)).slice(0, MAX_REASON);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ConnectError)
      return `the guest cannot look: ${secrets.redactor.text(error.rawMessage).slice(0, MAX_REASON)}`;
    const { code, message } = PyroError.from(error);
    if (code === "MICROVM_LOST" || code === "CANCELLED") throw error;
    return message;
  }
}

function lookOf({ type, target }: Probe, spec: ProcessSpec, secrets: Secrets): Look {
  switch (type) {
    case "file":
      return { case: "file", value: Buffer.from(target) };
    case "tcp":
    case "http":
      return { case: type, value: target };
    case "command":
      return {
        case: "command",
        value: {
          argv: ["sh", "-lc", target].map((word) => Buffer.from(word)),
          env: [
            ...Object.entries(spec.env).map(([name, value]) => Buffer.from(`${name}=${value}`)),
            ...secrets.environment(spec.secretEnv),
          ],
          cwd: Buffer.from(spec.cwd),
        },
      };
  }
}
