// Frames of a virtio-serial port, as proto/link.md lays them down: writing them, and reading them out of a byte stream
// that may have been cut anywhere. No I/O.

export const MAX_PAYLOAD_BYTES = 65_536;
const HEADER_BYTES = 8;
const END_BYTES = 1;
const CONTROL_BIT = 0x8000_0000;
const FILLER_BYTE = 0xff;

/** Longer than the longest frame, so that a cut frame always ends inside it, and wrongly. */
export const FILLER = Buffer.alloc(65_560, FILLER_BYTE);

export const Message = { Hello: 1, Ready: 2, Bye: 3 } as const;

export interface LinkFrame {
  readonly session: number;
  readonly control: boolean;
  readonly payload: Buffer;
}

/** Header of a frame whose payload the caller writes next, followed by FRAME_END. */
export function frameHeader(session: number, control: boolean, payloadBytes: number): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE(session, 0);
  header.writeUInt32BE(control ? (CONTROL_BIT | payloadBytes) >>> 0 : payloadBytes, 4);
  return header;
}

export const FRAME_END = Buffer.alloc(END_BYTES);

export function controlFrame(session: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(session, true, payload.length), payload, FRAME_END]);
}

/** Takes bytes as they come and gives whole frames; a cut frame is dropped with the filler behind it. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);
  #skippingFiller = false;
  readonly #nonce: Buffer | undefined;

  /** `nonce`: bare bytes that may stand behind filler (the answer to a HELLO that was said twice) and are skipped. */
  constructor(nonce?: Buffer) {
    this.#nonce = nonce;
  }

  push(chunk: Buffer): LinkFrame[] {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const frames: LinkFrame[] = [];
    for (;;) {
      if (this.#skippingFiller) {
        rest = skipFiller(rest);
        if (rest.length === 0) break;
        if (this.#nonce !== undefined) {
          const start = rest.subarray(0, this.#nonce.length);
          if (start.equals(this.#nonce.subarray(0, start.length))) {
            if (start.length < this.#nonce.length) break;
            rest = rest.subarray(this.#nonce.length);
          }
        }
        this.#skippingFiller = false;
      }
      if (rest.length === 0) break;
      if (rest[0] === FILLER_BYTE) {
        this.#skippingFiller = true;
        continue;
      }
      if (rest.length < HEADER_BYTES) break;
      const word = rest.readUInt32BE(4);
      const control = (word & CONTROL_BIT) !== 0;
      const length = word & 0x7fff_ffff;
      if (length > MAX_PAYLOAD_BYTES) {
        // A header that makes no sense was cut, and the filler that cut it ends it: only filler stands behind.
        rest = rest.subarray(HEADER_BYTES);
        this.#skippingFiller = true;
        continue;
      }
      const total = HEADER_BYTES + length + END_BYTES;
      if (rest.length < total) break;
      if (rest[total - 1] === 0) {
        frames.push({ session: rest.readUInt32BE(0), control, payload: rest.subarray(HEADER_BYTES, total - 1) });
      } else {
        this.#skippingFiller = true;
      }
      rest = rest.subarray(total);
    }
    this.#pending = rest;
    return frames;
  }
}

function skipFiller(bytes: Buffer): Buffer {
  let at = 0;
  while (at < bytes.length && bytes[at] === FILLER_BYTE) at++;
  return bytes.subarray(at);
}
