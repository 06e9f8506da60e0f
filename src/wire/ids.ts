// The ids that client and daemon both make: what they look like, and new ones.
import { randomBytes } from "node:crypto";

export const VM_ID_PATTERN = /^vm_[a-z2-7]{10}$/;
export const WORKSPACE_ID_PATTERN = /^ws_[a-z2-7]{10}$/;
/** A call that may be made again without being carried out twice. */
export const REQUEST_ID_PATTERN = /^rq_[a-z2-7]{10}$/;

const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

/** VM_ID_PATTERN: 50 random bits. */
export function newVmId(): string {
  return `vm_${random()}`;
}

/** WORKSPACE_ID_PATTERN. */
export function newWorkspaceId(): string {
  return `ws_${random()}`;
}

/** REQUEST_ID_PATTERN. */
export function newRequestId(): string {
  return `rq_${random()}`;
}

function random(): string {
  let id = "";
  for (const byte of randomBytes(10)) id += LETTERS.charAt(byte & 31);
  return id;
}
