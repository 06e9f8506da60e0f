// What most rows about a workspace may answer with: for looking at its state, and for starting it.

/** What starting any microVM may answer with, and what is asked of it then. */
export const MICROVM_ERRORS = [
  "HOST_MEMORY_SHORT",
  "LIMIT_EXCEEDED",
  "CONFINEMENT_UNAVAILABLE",
  "DRIVER_UNAVAILABLE",
  "MICROVM_START_FAILED",
  "MICROVM_LOST",
  "GUEST_UNRESPONSIVE",
  "NETWORK_FAILED",
] as const;

/** What a start of a workspace's microVM may answer with, beyond what any call may. */
export const START_ERRORS = ["DISK_EXPORT_RUNNING", "ENVIRONMENT_MISSING", ...MICROVM_ERRORS] as const;

/** What finding a workspace and looking at its state may answer with. */
export const WORKSPACE_ERRORS = ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "WORKSPACE_FAILED"] as const;
