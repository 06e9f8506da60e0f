// A running QEMU microVM, reached through the sockets in its directory and through the launcher.
import { connect } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { PyroError } from "../../errors/error.ts";
import { openSession } from "../../guest/link/session.ts";
import type { Launcher, VmEnd } from "../../launcher/launcher.ts";
import type { DriveFile, Machine, PortName } from "../driver.ts";
import { describeEnd, readTail } from "../last-words.ts";
import { driveNode, fileNode, type Role, SOCKETS } from "./arguments.ts";
import { Qmp } from "./qmp.ts";

/** Descriptor sets of files attached after the start; the drives' own are 1 to 3. */
const FIRST_ATTACHED_SET = 10;

/** What it stood still over is written at once. */
const GO_ON_MIB = 64;

export class QemuMachine implements Machine {
  readonly vmId: string;
  readonly ended: Promise<string>;
  readonly roomToGoOnMib = GO_ON_MIB;
  readonly #launcher: Launcher;
  readonly #directory: string;
  #attached = 0;
  #over = false;

  constructor(launcher: Launcher, vmId: string, directory: string, end: Promise<VmEnd>) {
    this.vmId = vmId;
    this.#launcher = launcher;
    this.#directory = directory;
    this.ended = end.then((how) => {
      this.#over = true;
      return describeEnd("QEMU", how);
    });
  }

  /** A name inside the microVM's directory, as a path of the host. */
  pathOf(name: string): string {
    return join(this.#directory, name);
  }

  async openPort(port: PortName, signal: AbortSignal): Promise<Duplex> {
    if (this.#over) throw new PyroError("MICROVM_LOST", `The microVM ${this.vmId} has ended: ${await this.ended}`);
    const socket = connect(`${this.#directory}.${port}.sock`);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.on("error", () => {});
    return await openSession(socket, signal);
  }

  async attach(role: Role, file: DriveFile): Promise<void> {
    const fdSet = FIRST_ATTACHED_SET + this.#attached++;
    // Within a monitor session: QEMU lets go of an unused descriptor when its last monitor closes.
    await this.#qmp(async (qmp) => {
      await this.#launcher.call((calls, options) =>
        calls.passDisk({ vmId: this.vmId, path: file.path, readOnly: file.readOnly, fdSet }, options),
      );
      const node = `${role}-file-${fdSet}`;
      await qmp.execute("blockdev-add", fileNode(node, fdSet, file.readOnly));
      await qmp.execute("blockdev-reopen", { options: [driveNode(role, node)] });
      await qmp.execute("blockdev-del", { "node-name": `${role}-file` });
      if (!file.readOnly) await qmp.execute("block_resize", { "node-name": role, size: file.virtualBytes });
    });
  }

  async resize(role: "writable" | "aux", virtualBytes: number): Promise<void> {
    await this.#qmp((qmp) => qmp.execute("block_resize", { "node-name": role, size: virtualBytes }));
  }

  async outOfRoom(): Promise<boolean> {
    const answer = await this.#qmp((qmp) => qmp.execute("query-status"));
    return Object(answer).status === "io-error";
  }

  async pause(): Promise<void> {
    await this.#qmp((qmp) => qmp.execute("stop"));
  }

  async resume(): Promise<void> {
    await this.#qmp((qmp) => qmp.execute("cont"));
  }

  async kill(): Promise<void> {
    await this.#launcher.call((calls, options) => calls.killVm({ vmId: this.vmId }, options));
    this.#launcher.forget(this.vmId);
  }

  async consoleTail(): Promise<string> {
    return await readTail(this.pathOf("console.log"));
  }

  release(): void {
    this.#launcher.forget(this.vmId);
  }

  async #qmp<T>(work: (qmp: Qmp) => Promise<T>): Promise<T> {
    const qmp = await Qmp.open(this.pathOf(SOCKETS.qmp));
    try {
      return await work(qmp);
    } finally {
      qmp.close();
    }
  }
}
