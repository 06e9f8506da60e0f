// Rows about a workspace's network: what it may reach, and what was decided about it.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import * as f from "./fields.ts";
import { WORKSPACE_ERRORS, workspaceRecord } from "./workspace.ts";

export const networkSet = defineOperation({
  name: "network.set",
  summary: "Change which hosts a workspace may reach",
  input: z.object({
    workspace_id: f.workspaceId,
    allow_hosts: f.allowHosts.describe(
      "The only hosts it may reach from now on, in place of those before; none at all for every public host",
    ),
    narrow_only: z.boolean().describe("Refuse what would let it reach more than before").default(false),
  }),
  output: z.object({
    workspace_id: workspaceRecord.workspace_id,
    network_policy: workspaceRecord.network_policy,
    allow_hosts: workspaceRecord.allow_hosts,
  }),
  errors: [...WORKSPACE_ERRORS, "POLICY_FORBIDDEN", "NETWORK_OFF", "NETWORK_FAILED"],
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: true },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "network", "set"],
    positional: ["workspace_id"],
    omit: ["narrow_only"],
    flags: { allow_hosts: "--allow-host <host>" },
    examples: [
      "pyro workspace network set fix-tests --allow-host pypi.org --allow-host '*.pythonhosted.org'",
      "pyro workspace network set fix-tests",
    ],
  },
  mcp: {
    tool: "network_set",
    title: "Narrow what a workspace may reach",
    description:
      "Use this to have a workspace reach only the hosts that are named, before something runs in it that is not trusted. It " +
      "narrows: a host that it may not reach now cannot be added, and connections to others are cut at once.",
    omit: ["narrow_only"],
  },
  sdk: { method: "setNetwork", omit: ["narrow_only"] },
});

const entry = z.object({
  time: f.timestamp,
  protocol: z.string().describe("dns, tcp, udp, tls or http"),
  name: z.string().nullable().describe("The host's name, as far as it is known"),
  address: z.string().nullable(),
  port: z.int().nullable(),
  verdict: z.enum(["allowed", "denied"]),
  reason: z.string(),
  count: z.int().describe("How often the same was decided within a moment"),
  code: z
    .string()
    .nullable()
    .describe(
      "About a brokered secret: secret_used, or why a request did not work, such as tls_not_trusted; else null",
    ),
  secret_name: z.string().nullable().describe("The secret that a request had, never its value"),
});

export const networkLog = defineOperation({
  name: "network.log",
  summary: "Show what a workspace's network let through and refused",
  input: z.object({
    workspace_id: f.workspaceId,
    limit: f.listLimit,
    cursor: f.cursor.optional(),
    follow: z.boolean().describe("Go on with what is decided later, until it is interrupted").default(false),
  }),
  output: z.object({ workspace_id: z.string(), entries: z.array(entry), next_cursor: z.string().nullable() }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: z.object({ type: z.literal("entry"), entry }),
  cli: {
    path: ["workspace", "network", "log"],
    positional: ["workspace_id"],
    examples: ["pyro workspace network log fix-tests", "pyro workspace network log fix-tests --follow --json"],
  },
  mcp: {
    tool: "network_log",
    title: "Show network decisions",
    description:
      "Use this to see why something in a workspace could not be reached: each name that was asked for and each connection, " +
      "allowed or denied, with the reason.",
    omit: ["follow"],
  },
  sdk: { method: "logNetwork" },
});
