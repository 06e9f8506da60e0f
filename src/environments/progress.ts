// How builders tell how far they are.

export interface BuildProgress {
  /** A word for programs: "sources", "packages", "image", "kernel", "initramfs". */
  readonly stage: string;
  /** A sentence for people. */
  readonly message: string;
  /** 0 to 1, or null when it is not known. */
  readonly fraction: number | null;
}

export type OnProgress = (progress: BuildProgress) => void;
