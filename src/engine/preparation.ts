// What must be there before any microVM of an environment and a size can start: kernel and initramfs, the environment,
// a driver that works here, and the template. All of it is shared by every start, and found in milliseconds once made.
import type { Driver, MachineSpec } from "../drivers/driver.ts";
import type { BootArtifacts, EnvironmentStore, HeldEnvironment, KnownEnvironment } from "../environments/store.ts";
import type { Acceleration, DriverChoice } from "./acceleration.ts";
import type { FoundTemplate, Progress, Templates } from "./templates.ts";

/** What a caller says of the microVM it wants. */
export interface Shape {
  readonly environment: string;
  readonly vcpuCount: number;
  readonly memMib: number;
  readonly diskMib: number;
  /** What the user's settings say unless it is given. */
  readonly driver?: DriverChoice | undefined;
}

/** Everything that a start of this shape takes. */
export interface Prepared {
  readonly shape: Shape;
  readonly spec: MachineSpec;
  /** Held: whoever prepared releases it when nothing stands on it any more. */
  readonly environment: HeldEnvironment;
  readonly driver: Driver;
  readonly templates: Templates;
  readonly template: FoundTemplate;
  /** The same for two starts whose microVMs could stand in for each other. */
  readonly key: string;
}

export class Preparation {
  readonly #environments: EnvironmentStore;
  readonly #acceleration: Acceleration;

  constructor(environments: EnvironmentStore, acceleration: Acceleration) {
    this.#environments = environments;
    this.#acceleration = acceleration;
  }

  /** Errors: those of a pull, HOST_TOOL_MISSING, DRIVER_UNAVAILABLE, MICROVM_START_FAILED; the signal's reason. */
  async prepare(shape: Shape, progress: Progress, signal: AbortSignal): Promise<Prepared> {
    const boot = await this.#environments.boot(progress, signal);
    const environment = await this.#environments.acquire(shape.environment, progress, signal);
    return await this.#complete(shape, boot, environment, progress, signal);
  }

  /** The same for something that stands on an image already. Errors: ENVIRONMENT_MISSING, those of prepare but a pull's. */
  async prepareAgain(
    shape: Omit<Shape, "environment">,
    known: KnownEnvironment,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<Prepared> {
    const boot = await this.#environments.boot(progress, signal);
    const environment = await this.#environments.acquireAgain(known);
    return await this.#complete({ ...shape, environment: known.environment }, boot, environment, progress, signal);
  }

  async #complete(
    shape: Shape,
    boot: BootArtifacts,
    environment: HeldEnvironment,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<Prepared> {
    try {
      const { driver, templates } = await this.#acceleration.choose(boot, progress, shape.driver);
      const spec: MachineSpec = {
        vcpuCount: shape.vcpuCount,
        memMib: shape.memMib,
        kernel: boot.kernel,
        initramfs: boot.initramfs,
      };
      const template = await templates.ensure(spec, progress);
      signal.throwIfAborted();
      const key = [template.key, environment.digest, shape.diskMib].join(" ");
      return { shape, spec, environment, driver, templates, template, key };
    } catch (error) {
      environment.release();
      throw error;
    }
  }

  /** Holds the image of a microVM that another daemon started. */
  hold(environmentDigest: string): () => void {
    return this.#environments.hold(environmentDigest);
  }
}
