// The daemon's log: one line an event on stderr, which its starter points at a file.

export function log(message: string): void {
  process.stderr.write(`${new Date().toISOString()} ${process.pid} ${message}\n`);
}
