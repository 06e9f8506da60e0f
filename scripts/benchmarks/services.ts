// What a service costs its callers, from the call to its answer: being started and being stopped.
import { Pyro } from "pyro-mcp";
import { stop, untilPoolIsFull } from "./commands.ts";
import type { Row } from "./samples.ts";

/** The first few are not counted: under emulation what runs first is translated first. */
const WARM_UP = 3;

export async function services(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  try {
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    await untilPoolIsFull();
    const starts: number[] = [];
    const stops: number[] = [];
    for (let round = -WARM_UP; round < count; round++) {
      const began = performance.now();
      const service = await workspace.service.start({ serviceName: "sleep", command: ["sleep", "1000"] });
      const started = performance.now();
      const { state } = await service.stop();
      const stopped = performance.now();
      if (state !== "stopped") throw new Error(`the service is ${state}`);
      if (round < 0) continue;
      starts.push(started - began);
      stops.push(stopped - started);
    }
    return [
      {
        name: "`service start`, ready as soon as it runs",
        command: "workspace.service.start({ serviceName, command })",
        unit: "ms",
        samples: starts,
      },
      {
        name: "`service stop` of one that obeys",
        command: "service.stop()",
        unit: "ms",
        samples: stops,
        target: 100,
      },
    ];
  } finally {
    await stop();
  }
}
