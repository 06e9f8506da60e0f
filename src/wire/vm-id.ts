// The id of a microVM: what it looks like, and a new one. Client and daemon both make them.
import { randomBytes } from "node:crypto";

export const VM_ID_PATTERN = /^vm_[a-z2-7]{10}$/;

const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

/** VM_ID_PATTERN: 50 random bits. */
export function newVmId(): string {
  let id = "vm_";
  for (const byte of randomBytes(10)) id += LETTERS.charAt(byte & 31);
  return id;
}
