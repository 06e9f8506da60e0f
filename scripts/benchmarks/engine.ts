// The engine under measurement, in this process, and the size of microVM that all figures are of.
import { Engine, removeSocketDirectories } from "../../src/engine/engine.ts";
import { type Paths, pathsFor } from "../../src/engine/paths.ts";
import type { Prepared, Shape } from "../../src/engine/preparation.ts";
import { readSettings } from "../../src/engine/settings.ts";

export const SHAPE: Shape = { environment: "debian:12", vcpuCount: 1, memMib: 1024, diskMib: 16_384 };

const PREPARE_MS = 600_000;

export interface Measured {
  readonly paths: Paths;
  readonly engine: Engine;
  readonly prepared: Prepared;
  close(): Promise<void>;
}

/** Opens it with everything prepared for the shape. No daemon may run in this home. */
export async function openEngine(poolSize: number): Promise<Measured> {
  const paths = pathsFor(process.env, process.getuid?.() ?? 0);
  const engine = await Engine.open(paths, { ...readSettings(process.env), poolSize });
  const close = async () => {
    await engine.close();
    await removeSocketDirectories(paths);
  };
  try {
    const prepared = await engine.preparation.prepare(SHAPE, () => {}, AbortSignal.timeout(PREPARE_MS));
    return { paths, engine, prepared, close };
  } catch (error) {
    await close();
    throw error;
  }
}
