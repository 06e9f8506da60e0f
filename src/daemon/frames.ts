// What a client's JSON frames must look like. Any process of this user can write to the socket, and clients of other
// versions do: a frame is checked once, here, and what comes out of it can be relied on.
import * as z from "zod";
import { PyroError } from "../errors/error.ts";
import { type Control, decodeJson, type Frame, type RequestHead, type UploadEnd } from "../wire/protocol.ts";

/** What a terminal's size is on every system, columns and rows alike. */
const cells = z.int().min(0).max(65_535);

const requestHead: z.ZodType<RequestHead> = z.object({
  // The row's own schema checks it.
  input: z.unknown(),
  vm_id: z.string().exactOptional(),
  request_id: z.string().max(64).exactOptional(),
  upload: z.boolean().exactOptional(),
  terminal: z.object({ columns: cells, rows: cells }).exactOptional(),
  resume: z
    .object({
      cursor: z.string().regex(/^\d{1,19}$/, "Invalid cursor"),
      stdin_offset: z.int().min(0),
    })
    .exactOptional(),
  attached: z.boolean(),
  stdin_closed: z.boolean(),
});

const control: z.ZodType<Control> = z.discriminatedUnion("type", [
  z.object({ type: z.literal("signal"), signal: z.int().min(1).max(64) }),
  z.object({ type: z.literal("resize"), columns: cells, rows: cells }),
  z.object({ type: z.literal("cancel") }),
]);

const uploadEnd: z.ZodType<UploadEnd> = z.object({
  mode: z.enum(["directory", "tar", "file"]),
  skipped: z
    .array(
      z.object({
        path: z.string().max(32_768),
        path_base64: z.string().max(65_536).exactOptional(),
        reason: z.string().max(1000),
      }),
    )
    .max(100),
  skipped_count: z.int().min(0),
});

const KNOWN: readonly string[] = ["signal", "resize", "cancel"] satisfies Control["type"][];

/** Errors: INVALID_INPUT. */
export function readHead(frame: Frame): RequestHead {
  return checked(requestHead, jsonOf(frame, "head"), "head");
}

/** Undefined for a control that only a newer client has: it may be missed. Errors: INVALID_INPUT. */
export function readControl(frame: Frame): Control | undefined {
  const value = jsonOf(frame, "control");
  const { type } = checked(z.looseObject({ type: z.string() }), value, "control");
  return KNOWN.includes(type) ? checked(control, value, "control") : undefined;
}

/** Errors: INVALID_INPUT. */
export function readUploadEnd(frame: Frame): UploadEnd {
  return checked(uploadEnd, jsonOf(frame, "end of files"), "end of files");
}

function jsonOf(frame: Frame, what: string): unknown {
  try {
    return decodeJson(frame);
  } catch (cause) {
    throw new PyroError("INVALID_INPUT", `The request's ${what} is not JSON.`, { cause });
  }
}

function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const told = parsed.error.issues.slice(0, 3).map(({ path, message }) => `${[what, ...path].join(".")}: ${message}`);
  throw new PyroError("INVALID_INPUT", `${told.join("; ")}.`);
}
