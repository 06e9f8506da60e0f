// What client and daemon say to each other over the daemon's unix socket. A leaf: both sides import it.
//
// HTTP/1.1, one route per operation: POST /v1/<operation name>. Headers of every request and reply:
//   pyro-protocol: <major>     another major is answered with DAEMON_INCOMPATIBLE (status 409)
//   pyro-version: <version>
// A row that does not stream: the request's body is the input as JSON, the reply's the output as JSON, or
// {"error": ErrorData} with status 4xx or 5xx.
// A row that streams (it has `events`): both bodies are frames, and the reply starts before the request's body ends.
// The status is 200 and errors are a frame. Frames: type (1 byte), length (4 bytes, big endian), payload.
//
// Daemon control, not rows: GET /v1/status -> DaemonStatus, POST /v1/stop -> {} (it ends runs, keeps workspaces).

/** Major of this protocol. Raised only when an older side could misread a newer one. */
export const PROTOCOL = 1;

/** Largest payload of a frame, bytes; a longer one ends the connection. */
export const MAX_FRAME_BYTES = 1 << 20;

/** Most stdin bytes that a client may have sent beyond what was acknowledged. It keeps these, to send them again. */
export const STDIN_WINDOW_BYTES = 1 << 20;

/** Frames from client to daemon. */
export const ToDaemon = {
  /** JSON RequestHead; the first frame, once. */
  Head: 0,
  /** Bytes of stdin, in order, from RequestHead.resume.stdin_offset (or 0) on. */
  Stdin: 1,
  /** End of stdin, no payload. */
  StdinEnd: 2,
  /** JSON Control. */
  Control: 3,
  /** JSON UploadEnd, behind the last Stdin frame of an upload. */
  UploadEnd: 4,
} as const;

/** Frames from daemon to client. */
export const ToClient = {
  /** JSON event of the row. */
  Event: 0,
  /** 8 bytes (big endian) cursor behind the chunk, then bytes of stdout. */
  Stdout: 1,
  /** The same of stderr. */
  Stderr: 2,
  /** JSON output of the row; the last frame of a success. Its stdout and stderr are empty: they were frames. */
  Output: 3,
  /** JSON ErrorData; the last frame of a failure. */
  Error: 4,
  /** JSON StdinAck. */
  StdinAck: 5,
  /** No payload; sent every HEARTBEAT_MS of silence, so that a dead daemon is noticed. */
  Heartbeat: 6,
} as const;

export const HEARTBEAT_MS = 5000;

export interface RequestHead {
  readonly input: unknown;
  /**
   * Chosen by the client for `run` (see ids.ts): the same id sent again never runs the command again, it takes
   * up the run where `resume` says.
   */
  readonly vm_id?: string;
  /**
   * Chosen by the client for `workspace.create` (the workspace_id) and `workspace.exec` (the name of this call): the same
   * sent again makes and runs nothing twice.
   */
  readonly request_id?: string;
  /** True: Stdin frames carry a tar archive, whose end UploadEnd says. Sent from its beginning on every connection. */
  readonly upload?: boolean;
  /** Columns and rows of the caller's terminal, for tty. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
  readonly resume?: {
    /** Cursor of the last output frame received, "0" for none. */
    readonly cursor: string;
    /** Stdin bytes acknowledged so far; the first Stdin frame of this connection starts there. */
    readonly stdin_offset: number;
  };
  /** True: the run ends when this connection ends without a resume (within CLAIM_MS). False: it is kept until read. */
  readonly attached: boolean;
  /** True: the caller has no stdin to give (the process sees an end of file at once). */
  readonly stdin_closed: boolean;
}

/** What the client alone knows of a host path that it sent. */
export interface UploadEnd {
  readonly mode: "directory" | "tar" | "file";
  /** At most 100 of them. */
  readonly skipped: readonly { readonly path: string; readonly path_base64?: string; readonly reason: string }[];
  readonly skipped_count: number;
}

/** How long a run waits for its client to come back, ms. */
export const CLAIM_MS = 60_000;

/** `cancel` ends the run at once: its whole tree is killed and the reply is an Error frame CANCELLED. */
export type Control =
  | { readonly type: "signal"; readonly signal: number }
  | { readonly type: "resize"; readonly columns: number; readonly rows: number }
  | { readonly type: "cancel" };

export interface StdinAck {
  readonly stdin_offset: number;
  /** True: nothing more will be read, stop sending. */
  readonly closed: boolean;
}

export interface DaemonStatus {
  readonly version: string;
  readonly pid: number;
  readonly socket: string;
  readonly log: string;
  /** Least important of what the log holds: debug, info, warn, error or off; older daemons do not say. */
  readonly log_level?: string;
  readonly started_at: string;
  readonly vm_count: number;
  /** How many of them are workspaces', which go on without a daemon; older daemons do not say. */
  readonly workspace_vm_count?: number;
  /** microVMs kept ready for the next run: how many there may be, and how many there are. */
  readonly pool: { readonly size: number; readonly ready: number };
}

export interface Frame {
  readonly type: number;
  readonly payload: Uint8Array;
}

export function encodeFrame(type: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(5 + payload.length);
  frame.writeUInt8(type, 0);
  frame.writeUInt32BE(payload.length, 1);
  frame.set(payload, 5);
  return frame;
}

export function encodeJsonFrame(type: number, value: unknown): Buffer {
  return encodeFrame(type, Buffer.from(JSON.stringify(value)));
}

/** An output frame: the cursor behind the chunk, then the chunk. */
export function encodeOutputFrame(type: number, cursor: bigint, data: Uint8Array): Buffer {
  const payload = Buffer.allocUnsafe(8 + data.length);
  payload.writeBigUInt64BE(cursor, 0);
  payload.set(data, 8);
  return encodeFrame(type, payload);
}

export function decodeJson(frame: Frame): unknown {
  return JSON.parse(Buffer.from(frame.payload).toString("utf8"));
}

/** Cuts a byte stream into frames. Throws RangeError on a frame that is too large. */
export async function* readFrames(source: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  let pending = Buffer.alloc(0);
  for await (const chunk of source) {
    pending = pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([pending, chunk]);
    let at = 0;
    while (pending.length - at >= 5) {
      const length = pending.readUInt32BE(at + 1);
      if (length > MAX_FRAME_BYTES) throw new RangeError(`frame of ${length} bytes`);
      if (pending.length - at < 5 + length) break;
      yield { type: pending.readUInt8(at), payload: pending.subarray(at + 5, at + 5 + length) };
      at += 5 + length;
    }
    pending = pending.subarray(at);
  }
}
