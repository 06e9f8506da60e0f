// A tool that asks for something: what is too large for a result is asked for again in a smaller piece, so that cursors
// stay true.
import type { CallToolResult } from "@modelcontextprotocol/server";
import { call } from "../client/call.ts";
import { ensureDaemon } from "../client/connect.ts";
import { openStream } from "../client/stream.ts";
import type { Where } from "../client/where.ts";
import { FACTS } from "../operations/facts.ts";
import type { InputOf, OperationName } from "../operations/table.ts";
import { gently, wholeLimit } from "./budget.ts";
import type { Request } from "./request.ts";
import { asText, type Output, result, sizeOf } from "./result.ts";

/** First guesses at how much output fits: of one process, of a screen, which is of use whole, and of each entry of a list. */
const FIRST_BYTES = { one: 3000, screen: 3800, each: 600 } as const;
/** Output that each entry of a list keeps before there are fewer entries. */
const LEAST_EACH = 200;
const REPEATS = 12;
/** Most output that a list is asked for at once, bytes: far below what a frame of the daemon's carries. */
const MOST_AT_ONCE = 512 << 10;

/** What of the input makes the answer smaller, and how far down, the first first. */
interface Step {
  readonly key: "max_bytes" | "limit";
  readonly least: number;
}

/** Errors: those of the row. */
export async function ask(
  where: Where,
  name: OperationName,
  input: Readonly<Record<string, unknown>>,
  request: Request,
): Promise<CallToolResult> {
  const asked = typeof input.max_bytes === "number" ? input.max_bytes : undefined;
  const whole = wholeLimit(asked);
  const waits = "wait_seconds" in FACTS[name].properties;
  const steps = stepsOf(name, asked !== undefined);
  const values: Record<string, number> = {};
  for (const { key } of steps) {
    const paged = steps.some((step) => step.key === "limit");
    const first = paged ? FIRST_BYTES.each : input.screen === true ? FIRST_BYTES.screen : FIRST_BYTES.one;
    values[key] = typeof input[key] === "number" ? input[key] : key === "max_bytes" ? first : 1;
  }
  if (asked !== undefined && values.limit !== undefined) {
    values.limit = Math.max(1, Math.min(values.limit, Math.floor(MOST_AT_ONCE / asked)));
  }
  await request.inTime(ensureDaemon(where, request.signal));
  for (let turn = 0; ; turn++) {
    const wait = waits ? { wait_seconds: turn > 0 ? 0 : request.leftMs / 1000 } : {};
    const output = asText(await once(where, name, { ...input, ...wait, ...values }, request)) as Output;
    const made = result(output);
    const size = sizeOf(made);
    if (size <= whole) return made;
    const items = listed(output);
    if (items !== undefined && values.limit !== undefined) values.limit = Math.min(values.limit, Math.max(1, items));
    const step = steps.find(({ key, least }) => (values[key] ?? 0) > least);
    if (step === undefined || turn >= REPEATS) {
      return gently(
        (level) => result(output, level),
        (one) => sizeOf(one) <= whole,
      );
    }
    const value = values[step.key] ?? 0;
    values[step.key] = Math.max(step.least, Math.min(value - 1, Math.floor((value * whole * 0.9) / size)));
  }
}

async function once(
  where: Where,
  name: OperationName,
  input: Readonly<Record<string, unknown>>,
  request: Request,
): Promise<unknown> {
  const given = input as InputOf<OperationName>;
  if (!FACTS[name].streams) {
    const signal = AbortSignal.any([request.signal, request.overdue]);
    return await request.inTime(call(where, name, given, { signal }));
  }
  const onEvent = (event: object) => {
    if ("message" in event && typeof event.message === "string") request.progress(event.message);
  };
  // A request that was cancelled ends what it began; where nobody is left to answer, or in time, that goes on.
  const cancelled = new AbortController();
  const stream = openStream(where, name, given, { signal: cancelled.signal, onEvent });
  const end = () => {
    if (request.clientGone) stream.leave(request.signal.reason);
    else cancelled.abort(request.signal.reason);
  };
  const leave = () => stream.leave(request.overdue.reason);
  if (request.signal.aborted) end();
  request.signal.addEventListener("abort", end, { once: true });
  request.overdue.addEventListener("abort", leave, { once: true });
  try {
    return await request.inTime(stream.result);
  } finally {
    request.signal.removeEventListener("abort", end);
    request.overdue.removeEventListener("abort", leave);
  }
}

/** A caller who says how much output each entry shall have gets fewer entries, one who does not gets less of each. */
function stepsOf(name: OperationName, asked: boolean): Step[] {
  const keys = FACTS[name].properties;
  const limit: Step[] = "limit" in keys ? [{ key: "limit", least: 1 }] : [];
  if (!("max_bytes" in keys)) return limit;
  const last: Step = { key: "max_bytes", least: 1 };
  if (limit.length === 0) return [last];
  return asked ? [...limit, last] : [{ key: "max_bytes", least: LEAST_EACH }, ...limit, last];
}

/** How long the list is that next_cursor goes on from. */
function listed(output: Output): number | undefined {
  if (!("next_cursor" in output)) return undefined;
  return Object.values(output).find((value) => Array.isArray(value))?.length;
}
