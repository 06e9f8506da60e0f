// The environments of one PYRO_HOME: which are installed, making or fetching what is missing, holding what is in use, and
// the artifacts every boot needs.
import type { Paths } from "../engine/paths.ts";
import { PyroError } from "../errors/error.ts";
import { installation } from "../host/installation.ts";
import { Boot, type BootArtifacts } from "./boot.ts";
import { buildRecipe } from "./build.ts";
import { failBuild } from "./failure.ts";
import { Holds } from "./holds.ts";
import {
  type EnvironmentFacts,
  findImage,
  type InstalledEnvironment,
  imageByDigest,
  installImage,
  type MadeImage,
  prepareImage,
  readNames,
} from "./images.ts";
import { layout } from "./layout.ts";
import { type EnvironmentName, parseName } from "./names.ts";
import { fetchImage } from "./oci.ts";
import type { OnProgress } from "./progress.ts";
import { type PruneOptions, prune, type RemovedThing } from "./prune.ts";
import { RECIPES } from "./recipes.ts";
import { SharedWork } from "./shared.ts";
import { withStaging } from "./staging.ts";

export type { BootArtifacts } from "./boot.ts";
export type { InstalledEnvironment } from "./images.ts";

/** A row of `env list`, in the names of the wire. */
export interface EnvironmentRecord {
  readonly environment: string;
  readonly digest: string | null;
  readonly installed: boolean;
  readonly size_bytes: number | null;
}

/** An environment that stays where it is until it is released; releasing it twice does no harm. */
export interface HeldEnvironment extends InstalledEnvironment {
  release(): void;
}

/** All that is known of an environment. */
export interface InspectedEnvironment {
  readonly name: EnvironmentName;
  readonly facts: EnvironmentFacts | undefined;
  readonly inUse: boolean;
}

/** What a record says of the image that something stands on. */
export interface KnownEnvironment {
  readonly environment: string;
  readonly digest: string;
  readonly env: Readonly<Record<string, string>>;
}

export class EnvironmentStore {
  readonly #paths: Paths;
  readonly #imageProgram: string;
  readonly #work = new SharedWork();
  readonly #holds = new Holds();
  readonly #boot: Boot;

  /**
   * `guestdPath`: the static binary that becomes /init. `imageProgram`: pyro-image. Only one process may build in a
   * home at a time.
   */
  constructor(paths: Paths, guestdPath: string, imageProgram: string = installation().image) {
    this.#paths = paths;
    this.#imageProgram = imageProgram;
    this.#boot = new Boot(paths, guestdPath, (work) => this.#stage(work));
  }

  /** All recipes, installed or not, and every image of a registry that is installed. */
  async list(): Promise<EnvironmentRecord[]> {
    const found = await readNames(this.#paths);
    const recipes = RECIPES.map(({ environment }) => environment);
    const others = [...found.keys()].filter((name) => !recipes.includes(name) && found.get(name) !== undefined).sort();
    return [...recipes, ...others].map((environment) => {
      const facts = found.get(environment);
      return {
        environment,
        digest: facts?.digest ?? null,
        installed: facts !== undefined,
        size_bytes: facts?.size_bytes ?? null,
      };
    });
  }

  /** The installed image of a name, or undefined. Errors: ENVIRONMENT_NOT_FOUND when there is no such environment. */
  async installed(name: string): Promise<InstalledEnvironment | undefined> {
    const facts = await findImage(this.#paths, parseName(name).environment);
    return facts === undefined ? undefined : withoutFacts(facts);
  }

  /** Errors: ENVIRONMENT_NOT_FOUND, also for an image of a registry that is not installed. */
  async inspect(given: string): Promise<InspectedEnvironment> {
    const name = parseName(given);
    const facts = await findImage(this.#paths, name.environment);
    if (facts === undefined && name.kind === "oci") {
      throw new PyroError("ENVIRONMENT_NOT_FOUND", `The image ${name.environment} is not installed.`, {
        hint: `\`pyro env pull ${name.environment}\` fetches it, and so does a run that names it.`,
        details: { environment: name.environment },
      });
    }
    const inUse = facts !== undefined && this.#holds.isHeld(facts.digest);
    return { name, facts, inUse };
  }

  /**
   * Builds or fetches an environment unless it is installed. Callers at the same time share one pull, which is aborted
   * when the last of them is. `refresh` asks the registry whether a tag stands for another image by now.
   * Errors: ENVIRONMENT_NOT_FOUND, ENVIRONMENT_BUILD_FAILED, ENVIRONMENT_DAMAGED, ENVIRONMENT_PLATFORM_MISSING,
   * ENVIRONMENT_UNSUPPORTED, REGISTRY_UNAUTHORIZED, REGISTRY_UNREACHABLE, LIMIT_EXCEEDED, INVALID_INPUT, HOST_*; the
   * reason of `signal`.
   */
  async pull(
    given: string,
    onProgress: OnProgress = () => {},
    signal?: AbortSignal,
    options: { refresh?: boolean } = {},
  ): Promise<InstalledEnvironment> {
    const name = parseName(given);
    const { environment } = name;
    const refresh = options.refresh === true && name.kind === "oci";
    if (!refresh) {
      const present = await findImage(this.#paths, environment);
      if (present) return withoutFacts(present);
    }
    return await this.#work.run(`pull ${environment}`, onProgress, signal, async (tell, shared) => {
      const release = this.#holds.holdName(environment);
      try {
        return withoutFacts(await this.#make(name, tell, shared));
      } catch (error) {
        shared.throwIfAborted();
        throw failBuild("HOST_IO_FAILED", `The environment ${environment} could not be stored`, error);
      } finally {
        release();
      }
    });
  }

  /**
   * An environment, pulled when it is missing, that nothing removes until it is released. Between finding it and
   * holding it there is no moment at which it could go. Errors: as pull.
   */
  async acquire(given: string, onProgress: OnProgress = () => {}, signal?: AbortSignal): Promise<HeldEnvironment> {
    const { environment } = parseName(given);
    const releaseName = this.#holds.holdName(environment);
    try {
      await this.pull(given, onProgress, signal);
      return await this.#holds.exclusively(async () => {
        const facts = await findImage(this.#paths, environment);
        if (facts === undefined) throw new PyroError("HOST_IO_FAILED", `The image of ${environment} vanished.`);
        return { ...withoutFacts(facts), release: this.#holds.hold(facts.digest) };
      });
    } finally {
      releaseName();
    }
  }

  /**
   * The very image that somebody stands on already, whatever its name stands for by now.
   * Errors: ENVIRONMENT_MISSING when it is not there any more.
   */
  async acquireAgain(known: KnownEnvironment): Promise<HeldEnvironment> {
    const release = this.#holds.hold(known.digest);
    const found = await imageByDigest(this.#paths, known).catch((error: unknown) => {
      release();
      throw failBuild("HOST_IO_FAILED", `The image of ${known.environment} cannot be read`, error);
    });
    if (found !== undefined) return { ...found, release };
    release();
    throw new PyroError(
      "ENVIRONMENT_MISSING",
      `The image ${known.digest.slice(0, 12)} of ${known.environment} is not there any more, or is damaged.`,
    );
  }

  /** Holds an image that somebody uses already, such as a microVM that an earlier daemon started. */
  hold(digest: string): () => void {
    return this.#holds.hold(digest);
  }

  /** Removes what nothing needs. Errors: HOST_IO_FAILED. */
  async prune(options: PruneOptions): Promise<RemovedThing[]> {
    try {
      return await prune({ paths: this.#paths, holds: this.#holds, boot: this.#boot }, options);
    } catch (error) {
      throw failBuild("HOST_IO_FAILED", "Environments could not be removed", error);
    }
  }

  /**
   * The kernel and an initramfs with the present guestd, fetched and made when they are missing. Digests are checked
   * once per process. Errors: as pull.
   */
  async boot(onProgress: OnProgress = () => {}, signal?: AbortSignal): Promise<BootArtifacts> {
    return await this.#boot.artifacts(onProgress, signal);
  }

  async #make(name: EnvironmentName, onProgress: OnProgress, signal: AbortSignal): Promise<InstalledEnvironment> {
    const { environment } = name;
    return await this.#stage(async (staging) => {
      const place = { staging, logPath: layout.log(this.#paths, environment), onProgress, signal };
      const made = await this.#image(name, place);
      const present = made === undefined ? await findImage(this.#paths, environment) : undefined;
      if (present !== undefined) return present;
      if (made === undefined) throw new PyroError("HOST_IO_FAILED", `The image of ${environment} vanished.`);
      onProgress({ stage: "image", message: "Storing the image", fraction: 0.98 });
      const ready = await prepareImage(environment, made, staging, signal);
      signal.throwIfAborted();
      const home = { paths: this.#paths, holds: this.#holds };
      const installed = await installImage(home, environment, made, ready, signal);
      onProgress({ stage: "image", message: `${environment} is ready`, fraction: 1 });
      return installed;
    });
  }

  /** Undefined when the registry has no other image than the installed one. */
  async #image(name: EnvironmentName, place: Parameters<typeof buildRecipe>[1]): Promise<MadeImage | undefined> {
    if (name.kind === "recipe") {
      const { packages, env } = name.recipe;
      return { path: await buildRecipe(name.recipe, place), env, source: { kind: "recipe", packages } };
    }
    const present = await findImage(this.#paths, name.environment);
    const installed = present?.source?.kind === "oci" ? present.source.manifest_digest : undefined;
    const fetched = await fetchImage(name.environment, { ...place, program: this.#imageProgram, installed });
    return fetched === undefined ? undefined : { path: fetched.image, env: fetched.env, source: fetched.source };
  }

  #stage<T>(work: (directory: string) => Promise<T>): Promise<T> {
    return withStaging(this.#paths.environments, work);
  }
}

function withoutFacts(installed: InstalledEnvironment): InstalledEnvironment {
  const { environment, digest, size_bytes, imagePath, baseType, env } = installed;
  return { environment, digest, size_bytes, imagePath, baseType, env };
}
