// A running Firecracker microVM, reached through the sockets in its directory and through the launcher.
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { PyroError } from "../../errors/error.ts";
import type { Launcher, VmEnd } from "../../launcher/launcher.ts";
import type { DriveFile, Machine, PortName } from "../driver.ts";
import { describeEnd, readTail } from "../last-words.ts";
import { Api } from "./api.ts";
import { PORTS, type Role, resizeAction, SOCKETS, stateAction } from "./configuration.ts";
import { openVsock } from "./vsock.ts";

/**
 * A guest that writes while the host's disk is full gets I/O errors, so it is stopped before: with less than this free,
 * MiB. What it writes between two looks must fit in there.
 */
const RESERVE_MIB = 512;
/** Free space with which it goes on, MiB: enough above the reserve that it does not stop again at once. */
const GO_ON_MIB = 1024;

export interface MachinePlace {
  /** The launcher's directory of it, with its console. */
  readonly directory: string;
  /** The VMM's present directory, with its sockets. */
  readonly root: string;
}

export class FirecrackerMachine implements Machine {
  readonly vmId: string;
  readonly vsockSocket = SOCKETS.vsock;
  readonly ended: Promise<string>;
  readonly roomToGoOnMib = GO_ON_MIB;
  readonly api: Api;
  readonly #launcher: Launcher;
  readonly #place: MachinePlace;
  readonly #open = new Map<PortName, Duplex>();
  #over = false;
  /** Stopped for want of room. Undefined for one that was taken up and not looked at yet. */
  #standing: boolean | undefined;

  constructor(launcher: Launcher, vmId: string, place: MachinePlace, end: Promise<VmEnd>, adopted = false) {
    this.vmId = vmId;
    this.#launcher = launcher;
    this.#place = place;
    this.#standing = adopted ? undefined : false;
    this.api = new Api(join(place.root, SOCKETS.api));
    this.ended = end.then((how) => {
      this.#over = true;
      for (const stream of this.#open.values()) stream.destroy();
      return describeEnd("Firecracker", how);
    });
  }

  get isOver(): boolean {
    return this.#over;
  }

  async openPort(port: PortName, signal: AbortSignal): Promise<Duplex> {
    if (this.#over) throw new PyroError("MICROVM_LOST", `The microVM ${this.vmId} has ended: ${await this.ended}`);
    const path = join(this.#place.root, SOCKETS.vsock);
    const stream = await openVsock(path, PORTS[port], signal, () => this.#over);
    this.#open.get(port)?.destroy();
    this.#open.set(port, stream);
    stream.once("close", () => {
      if (this.#open.get(port) === stream) this.#open.delete(port);
    });
    return stream;
  }

  /** Its files are bound where it runs before it starts: see Features.hotAttach. */
  async attach(role: Role, _file: DriveFile): Promise<void> {
    throw new PyroError("INTERNAL", `Firecracker's drive ${role} can only be given at the start.`);
  }

  async resize(role: "writable" | "aux"): Promise<void> {
    await this.api.ask(resizeAction(role));
  }

  async outOfRoom(hostFreeMib?: number): Promise<boolean> {
    // Of one that another daemon left standing nobody else knows why.
    this.#standing ??= (await this.api.ask({ method: "GET", path: "/" })).state === "Paused";
    if (this.#standing || hostFreeMib === undefined || hostFreeMib >= RESERVE_MIB) return this.#standing;
    await this.pause();
    this.#standing = true;
    return true;
  }

  async pause(): Promise<void> {
    await this.api.ask(stateAction("Paused"));
  }

  async resume(): Promise<void> {
    await this.api.ask(stateAction("Resumed"));
    this.#standing = false;
  }

  async kill(): Promise<void> {
    await this.#launcher.call((calls, options) => calls.killVm({ vmId: this.vmId }, options));
    this.#launcher.forget(this.vmId);
  }

  async consoleTail(): Promise<string> {
    return await readTail(join(this.#place.directory, "console.log"));
  }

  release(): void {
    this.#launcher.forget(this.vmId);
  }
}
