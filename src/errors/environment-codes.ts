// The error codes about environments and the registries they come from: a part of the table in codes.ts.
import { type CodeFacts, OPERATOR_HINT } from "./facts.ts";

export const ENVIRONMENT_CODES = {
  ENVIRONMENT_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro env list` for the environments there are.",
    mcpHint: "Use `env_list`, or leave `environment` out for the default.",
  },
  ENVIRONMENT_PREPARING: {
    exit: 1,
    retryable: true,
    hint: "It is being built; run the same command again in a minute.",
    mcpHint: "It is being built; make the same call again in a minute.",
  },
  ENVIRONMENT_BUILD_FAILED: {
    exit: 1,
    retryable: true,
    hint: "Read the end of the build's log above; `pyro doctor` checks what a build needs.",
    mcpHint: OPERATOR_HINT,
  },
  ENVIRONMENT_DAMAGED: {
    exit: 1,
    retryable: true,
    hint: "What the registry sent is not what its digests say; try again, and if it stays so, tell who runs the registry.",
    mcpHint: "What the registry sent is not what its digests say; try once more, or use another environment.",
  },
  ENVIRONMENT_MISSING: {
    exit: 1,
    retryable: false,
    hint: "The lower half of the workspace's disk is gone: put the image's directory back from a backup, or delete the workspace.",
    mcpHint: OPERATOR_HINT,
  },
  ENVIRONMENT_PLATFORM_MISSING: {
    exit: 1,
    retryable: false,
    hint: "Use a tag or another image that has linux/amd64.",
    mcpHint: "Use a tag or another image that has linux/amd64.",
  },
  ENVIRONMENT_UNSUPPORTED: {
    exit: 1,
    retryable: false,
    hint: "Use a container image of the OCI or Docker kind for Linux.",
    mcpHint: "Use a container image of the OCI or Docker kind for Linux.",
  },
  REGISTRY_UNAUTHORIZED: {
    exit: 1,
    retryable: false,
    hint: "Check the name; for a private image log in first (`docker login` or `podman login`: pyro reads their login).",
    mcpHint:
      "Check the name of the image; a private one needs a login that only the person who runs this server can make.",
  },
  REGISTRY_UNREACHABLE: {
    exit: 1,
    retryable: true,
    hint: "Check the registry's name, the network and the proxy variables; then try again.",
    mcpHint: "Check the registry's name in `environment`; try again later.",
  },
} as const satisfies Record<string, CodeFacts>;
