// How builders tell how far they are.

export interface BuildProgress {
  /** A word for programs: "sources", "packages", "image", "registry", "layers", "kernel", "initramfs". */
  readonly stage: string;
  /** A sentence for people. */
  readonly message: string;
  /** 0 to 1, or null when it is not known. */
  readonly fraction: number | null;
  /** Bytes fetched so far and in all, where they are known. */
  readonly bytes?: number;
  readonly total_bytes?: number;
}

export type OnProgress = (progress: BuildProgress) => void;
