// Times of one thing done several times, and what is said of them.

export interface Row {
  readonly name: string;
  /** How to do it by hand, or what is called. */
  readonly command: string;
  readonly unit: "ms" | "MiB" | "%";
  readonly samples: readonly number[];
  /** What it should be at most on an idle machine, in the row's unit. */
  readonly target?: number;
}

/** Does something `count` times after `warmUp` uncounted ones; it returns its own time, or is timed. In ms. */
export async function sample(
  count: number,
  work: () => Promise<number | undefined>,
  warmUp = 1,
): Promise<readonly number[]> {
  const samples: number[] = [];
  for (let round = -warmUp; round < count; round++) {
    const started = performance.now();
    const own = await work();
    if (round >= 0) samples.push(own ?? performance.now() - started);
  }
  return samples;
}

/** The smallest sample that `share` of all do not exceed. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return percentile(samples, 0.5);
}

/** A Markdown table, which is what the README holds. */
export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.name,
    `${number(median(row.samples))} ${row.unit}`,
    `${number(percentile(row.samples, 0.95))} ${row.unit}`,
    row.target === undefined ? "" : `${number(row.target)} ${row.unit}`,
    String(row.samples.length),
    `\`${row.command}\``,
  ]);
  const lines = [
    ["what", "median", "p95", "target", "n", "command"],
    ["---", "---:", "---:", "---:", "---:", "---"],
    ...cells,
  ];
  return lines.map((line) => `| ${line.join(" | ")} |`).join("\n");
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
