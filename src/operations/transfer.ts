// What the rows that bring a host's files into a workspace have in common.

/** What bringing a host's files in may answer with. */
export const TRANSFER_ERRORS = [
  "SOURCE_NOT_FOUND",
  "SOURCE_UNREADABLE",
  "ARCHIVE_INVALID",
  "PATH_OUTSIDE",
  "PATH_CONFLICT",
  "GUEST_DISK_FULL",
  "HOST_PATH_FORBIDDEN",
] as const;
