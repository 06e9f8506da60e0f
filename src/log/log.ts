// This process's log: a line an event on stderr. The daemon's stderr is a file that its starter made. A leaf.

export const LOG_LEVELS = ["debug", "info", "warn", "error", "off"] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

let least: number = LOG_LEVELS.indexOf("off");

/** What is less important than this is left out. Nothing is said before this was called. */
export function logFrom(level: LogLevel): void {
  least = LOG_LEVELS.indexOf(level);
}

/** What was set last. */
export function logLevel(): LogLevel {
  return LOG_LEVELS[least] ?? "off";
}

export function log(message: string, level: Exclude<LogLevel, "off"> = "info"): void {
  if (LOG_LEVELS.indexOf(level) < least) return;
  process.stderr.write(`${new Date().toISOString()} ${process.pid} ${level} ${message}\n`);
}
