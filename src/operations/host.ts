// Rows about this host rather than a microVM.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";

export const doctor = defineOperation({
  name: "doctor",
  summary: "Check this host: what pyro found, what it will use, how fast, how isolated, and how to get better",
  input: z.object({}),
  output: z.object({
    ok: z.boolean().describe("True when a microVM can be started"),
    checks: z.array(
      z.object({
        name: z.string(),
        status: z.enum(["ok", "warning", "failed"]),
        message: z.string(),
        fix: z.string().nullable(),
        package: z.string().nullable().describe("The package of Debian and Ubuntu that has what is missing here"),
      }),
    ),
    driver: z.string(),
    acceleration: z.enum(["kvm", "tcg"]).nullable(),
    isolation: z.string().describe("What stands between a guest and this host, in a sentence"),
    probe: z
      .object({
        ok: z.boolean(),
        acceleration: z.enum(["kvm", "tcg"]),
        boot_ms: z.int().nullable(),
        message: z.string(),
      })
      .nullable(),
  }),
  errors: [],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: [],
  events: envEvent,
  cli: { path: ["doctor"], examples: ["pyro doctor --json"] },
  mcp: { absent: "It speaks of the host, which a model in a chat cannot mend." },
  sdk: { method: "doctor" },
});
