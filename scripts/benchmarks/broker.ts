// What brokering a secret costs a request, on the host's side: the same request to a host, directly and through netd's broker,
// measured by Go (go/internal/broker/bench_test.go) without a microVM in between.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Row } from "./samples.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export async function brokered(count: number): Promise<Row[]> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-bench-"));
  const path = join(directory, "samples.json");
  try {
    const args = ["test", "-run", "^$", "-bench", "^BenchmarkLatency$", "-benchtime", `${20 * count}x`];
    await promisify(execFile)("go", [...args, "./go/internal/broker"], {
      cwd: root,
      env: { ...process.env, PYRO_BENCH_SAMPLES: path },
    });
    const samples = JSON.parse(await readFile(path, "utf8")) as { direct: number[]; brokered: number[] };
    const command = "a GET over TLS, 16 KiB back, on the host";
    return [
      { name: "a request to a host", command, unit: "ms", samples: samples.direct },
      { name: "the same with a brokered secret", command, unit: "ms", samples: samples.brokered },
      {
        name: "what brokering adds",
        target: 5,
        command: "the difference, pair by pair",
        unit: "ms",
        samples: samples.brokered.map((each, at) => each - (samples.direct[at] ?? 0)),
      },
    ];
  } finally {
    await rm(directory, { recursive: true });
  }
}
