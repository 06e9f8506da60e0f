// A service as a person holds it: the same calls as Pyro's, with its workspace and name filled in.
import type { Pyro } from "./pyro.ts";
import type {
  CallOptions,
  EventOptions,
  FollowedServiceLogsInput,
  OutputChunk,
  ServiceEvent,
  ServiceLogsInput,
  ServiceLogsResult,
  ServiceRecord,
  ServiceStopInput,
} from "./types.ts";

type OfService<Input> = Omit<Input, "workspaceId" | "serviceName">;

export class Service {
  readonly workspaceId: string;
  readonly serviceName: string;
  /** What was known of it when it was ready; undefined for a handle on one that there was. */
  readonly started: ServiceRecord | undefined;
  readonly #pyro: Pyro;

  /** Made by the handle on its workspace. */
  constructor(pyro: Pyro, workspaceId: string, serviceName: string, started?: ServiceRecord) {
    this.#pyro = pyro;
    this.workspaceId = workspaceId;
    this.serviceName = serviceName;
    this.started = started;
  }

  status(options: CallOptions = {}): Promise<ServiceRecord> {
    return this.#pyro.statusService(this.#named({}), options);
  }

  /** Ends it with all that it started, and resolves when it has ended. */
  stop(input: OfService<ServiceStopInput> = {}, options: EventOptions<ServiceEvent> = {}): Promise<ServiceRecord> {
    return this.#pyro.stopService(this.#named(input), options);
  }

  /** What it printed; with `follow: true` as it comes, until it ends or the loop is left. */
  logs(input: OfService<FollowedServiceLogsInput>, options?: CallOptions): AsyncIterable<OutputChunk>;
  logs(input?: OfService<ServiceLogsInput>, options?: CallOptions): Promise<ServiceLogsResult>;
  logs(
    input: OfService<ServiceLogsInput> | OfService<FollowedServiceLogsInput> = {},
    options: CallOptions = {},
  ): AsyncIterable<OutputChunk> | Promise<ServiceLogsResult> {
    return this.#pyro.logsService(this.#named(input as OfService<ServiceLogsInput>), options);
  }

  #named<Input extends object>(input: Input): Input & { workspaceId: string; serviceName: string } {
    return { ...input, workspaceId: this.workspaceId, serviceName: this.serviceName };
  }
}
