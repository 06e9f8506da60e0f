// Names of the host's files as they are: bytes, of any encoding or none. They are kept as strings of one character per
// byte (latin1), which V8 stores in one byte each and compares in the order of their bytes.
import type { UploadEnd } from "../../wire/protocol.ts";

/** A path relative to the source, one character per byte, parts joined by "/". */
export type ByteName = string;

/** Most names that are told; all are counted. */
const MAX_TOLD = 100;

export function byteName(text: string): ByteName {
  return Buffer.from(text, "utf8").toString("latin1");
}

export function bytesOf(name: ByteName): Buffer {
  return Buffer.from(name, "latin1");
}

/** For people: what is not UTF-8 becomes U+FFFD. */
export function shown(name: ByteName): string {
  return bytesOf(name).toString("utf8");
}

/** What was not sent, or not as it should be, and why. */
export class Skipped {
  readonly #told: UploadEnd["skipped"][number][] = [];
  #count = 0;

  /** `reason`: a few words. */
  add(name: ByteName, reason: string): void {
    this.#count++;
    if (this.#told.length >= MAX_TOLD) return;
    const path = shown(name);
    const exact = byteName(path) === name;
    this.#told.push(exact ? { path, reason } : { path, path_base64: bytesOf(name).toString("base64"), reason });
  }

  get told(): UploadEnd["skipped"] {
    return this.#told;
  }

  get count(): number {
    return this.#count;
  }
}
