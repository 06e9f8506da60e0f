// Rows about environments: the base images that microVMs start from.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import * as f from "./fields.ts";

const environmentRecord = {
  environment: z.string(),
  digest: z.string().nullable().describe("sha256 of the image, null when it is not installed"),
  installed: z.boolean(),
  size_bytes: z.int().nullable().describe("Bytes on disk, null when it is not installed"),
} as const;

export const envEvent = z.object({
  type: z.literal("progress"),
  message: z.string(),
  stage: z.string(),
  fraction: z.number().nullable(),
});

export const envList = defineOperation({
  name: "env.list",
  summary: "List the environments there are, and which are installed",
  input: z.object({
    limit: z.int().min(1).max(1000).default(100).describe("Most rows in the answer"),
    cursor: f.cursor.optional(),
  }),
  output: z.object({
    environments: z.array(z.object(environmentRecord)),
    next_cursor: z.string().nullable(),
  }),
  errors: ["CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: ["workspace-full"],
  cli: { path: ["env", "list"], examples: ["pyro env list --json"] },
  mcp: {
    tool: "env_list",
    title: "List environments",
    description: "Use this to see which environments a microVM can start from, and which need no build first.",
  },
  sdk: { method: "listEnvironments" },
});

export const envPull = defineOperation({
  name: "env.pull",
  summary: "Build or fetch an environment, so that the first start does not wait for it",
  input: z.object({ environment: f.environment }),
  output: z.object(environmentRecord),
  errors: ["ENVIRONMENT_NOT_FOUND", "ENVIRONMENT_BUILD_FAILED"],
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: true },
  legalIn: [],
  profiles: [],
  events: envEvent,
  cli: { path: ["env", "pull"], positional: ["environment"], examples: ["pyro env pull debian:12"] },
  mcp: { absent: "A pull takes longer than a call may; vm_run starts one by itself and says ENVIRONMENT_PREPARING." },
  sdk: { method: "pullEnvironment" },
});
