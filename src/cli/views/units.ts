// Sizes and times as a person reads them. Pure.

export function sizeOf(bytes: number): string {
  if (bytes > 0 && bytes < 1024) return `${bytes} B`;
  return bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${Math.round(bytes / (1 << 20))} MiB`;
}

const STEPS = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
] as const;

/** How long ago, in the largest unit of which there are two, else in the next smaller: 90s, 3h. */
export function ageOf(timestamp: string, now: number = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(timestamp)) / 1000));
  if (!Number.isFinite(seconds)) return "-";
  for (const [unit, size] of STEPS) if (seconds >= 2 * size) return `${Math.floor(seconds / size)}${unit}`;
  return `${seconds}s`;
}

export function secondsOf(ms: number): string {
  return (ms / 1000).toFixed(1);
}

/** "1 entry", "2 entries". */
export function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** What fits a line with others; the end of a longer text is left out. */
export function shortened(text: string, most = 80): string {
  return text.length <= most ? text : `${text.slice(0, most - 3)}...`;
}
