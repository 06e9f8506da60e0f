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

/** What a pull may answer with, beyond what any call may. */
export const PULL_ERRORS = [
  "ENVIRONMENT_NOT_FOUND",
  "ENVIRONMENT_BUILD_FAILED",
  "ENVIRONMENT_DAMAGED",
  "ENVIRONMENT_PLATFORM_MISSING",
  "ENVIRONMENT_UNSUPPORTED",
  "REGISTRY_UNAUTHORIZED",
  "REGISTRY_UNREACHABLE",
  "LIMIT_EXCEEDED",
] as const;

export const envEvent = z.object({
  type: z.literal("progress"),
  message: z.string(),
  stage: z.string(),
  fraction: z.number().nullable(),
  bytes: z.int().optional().describe("Bytes fetched so far, where they are known"),
  total_bytes: z.int().optional(),
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
  errors: [...PULL_ERRORS],
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: true },
  legalIn: [],
  profiles: [],
  events: envEvent,
  cli: {
    path: ["env", "pull"],
    positional: ["environment"],
    examples: ["pyro env pull debian:12-build", "pyro env pull docker.io/library/node:22"],
  },
  mcp: { absent: "A pull takes longer than a call may; vm_run starts one by itself and says ENVIRONMENT_PREPARING." },
  sdk: { method: "pullEnvironment" },
});

export const envInspect = defineOperation({
  name: "env.inspect",
  summary: "Show all that is known of an environment",
  input: z.object({ environment: f.environment }),
  output: z.object({
    ...environmentRecord,
    kind: z.enum(["recipe", "oci"]).describe("Built here from a recipe, or fetched from a registry"),
    created_at: f.timestamp.nullable().describe("When the image was made on this host, RFC 3339, UTC"),
    in_use: z.boolean().describe("True when a microVM stands on it"),
    platform: z.string(),
    env: z.record(z.string(), z.string()).describe("Environment variables that every process gets"),
    packages: z.array(z.string()).nullable().describe("Packages a recipe asks for; null for an image of a registry"),
    manifest_digest: z.string().nullable().describe("Digest of the platform's manifest in the registry"),
    index_digest: z.string().nullable().describe("Digest of the list of manifests, where the reference stood for one"),
    config_digest: z.string().nullable(),
    layers: z.array(z.object({ digest: z.string(), size_bytes: z.int() })).nullable(),
  }),
  errors: ["ENVIRONMENT_NOT_FOUND"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: [],
  cli: { path: ["env", "inspect"], positional: ["environment"], examples: ["pyro env inspect debian:12 --json"] },
  mcp: { absent: "It describes the host's store; env_list tells a model which environments there are." },
  sdk: { method: "inspectEnvironment" },
});

export const envPrune = defineOperation({
  name: "env.prune",
  summary: "Remove images, kernels and logs that nothing needs any more",
  input: z.object({
    all: z.boolean().default(false).describe("Also remove environments that have a name, unless something uses them"),
    dry_run: z.boolean().default(false).describe("Remove nothing, only say what would be removed"),
  }),
  output: z.object({
    dry_run: z.boolean(),
    removed: z.array(
      z.object({
        kind: z.enum(["image", "kernel", "boot", "staging", "log"]),
        name: z.string().describe("sha256 of an image, else the name on disk"),
        environments: z.array(z.string()).describe("Environments that stood for an image"),
        size_bytes: z.int(),
      }),
    ),
    reclaimed_bytes: z.int(),
  }),
  errors: [],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: [],
  cli: { path: ["env", "prune"], examples: ["pyro env prune --all --dry-run"] },
  mcp: { absent: "What is kept on this host is for its owner to say, not for a model." },
  sdk: { method: "pruneEnvironments" },
});
