// The outer guest as a QEMU process: its command line, which is the same for the machine that is frozen and for those
// that are thawed, and its life. It ends with this process, however that ends.
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { Qmp } from "../../src/drivers/qemu/qmp.ts";
import { Channel } from "./channel.ts";

export const QEMU = "qemu-system-x86_64";
/** Images that a run can bring along. */
export const IMAGES = 2;
const MEMORY_MIB = 8192;
const VCPUS = 2;
/** What a run's image may be as large as, bytes: the guest keeps the size that it saw when it booted. */
const IMAGE_BYTES = 256 * 1024 ** 3;
const CONSOLE_CHARACTERS = 16_384;

const CHANNEL_FD = 3;
const QMP_FD = 4;
const FIRST_FILE_FD = 5;

/** What differs between machines. */
export interface Shape {
  /** Guest memory: written to by the machine that is frozen, only read (and copied on write) by the others. */
  readonly memory: string;
  readonly root: string;
  readonly disk: string;
  readonly thawed: boolean;
  /** Open files; a drive without one is empty. */
  readonly images: readonly number[];
  readonly more: readonly string[];
  /** What its network device is connected to, as QEMU's -netdev has it; by default QEMU's own network. */
  readonly netdev?: string;
}

/**
 * Without AVX, whose instructions cost an emulator many times what they save: a digest takes a third of the time, and most
 * programs start sooner.
 */
const CPU = "max,+svm,-la57,-avx2,-avx,-fma,-f16c";

/** Everything that has to be the same at freeze and thaw; with its own network, part of the frozen guest's key. */
export function machineArguments(netdev = "user"): string[] {
  return [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-M", "q35,memory-backend=ram,smm=off,sata=off,smbus=off,usb=off"],
    ...["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", CPU],
    ...["-m", `${MEMORY_MIB}M`, "-smp", String(VCPUS)],
    ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
    ...["-device", "virtio-serial-pci,id=vs", "-chardev", `socket,id=lab,fd=${CHANNEL_FD}`],
    ...["-device", "virtserialport,bus=vs.0,nr=1,chardev=lab,name=lab"],
    ...["-chardev", `socket,id=qmp,fd=${QMP_FD}`, "-mon", "chardev=qmp,mode=control"],
    ...["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"],
    ...["-netdev", `${netdev},id=net`, "-device", "virtio-net-pci,netdev=net"],
  ];
}

function driveArguments(shape: Shape): string[] {
  const drive = (id: string, source: string) => [
    ...["-drive", `if=none,id=${id},format=raw,${source}`, "-device", `virtio-blk-pci,drive=${id}`],
  ];
  // What a thawed machine writes goes to a file that has no name from the moment it is there.
  const writable = `file=${path(shape.disk)},cache=unsafe,discard=unmap,snapshot=${shape.thawed ? "on" : "off"}`;
  const images = Array.from({ length: IMAGES }, (_, index) =>
    index < shape.images.length
      ? drive(`image${index}`, `readonly=on,file=/proc/self/fd/${FIRST_FILE_FD + index}`)
      : drive(`image${index}`, `readonly=on,file.driver=null-co,file.size=${IMAGE_BYTES},file.read-zeroes=on`),
  );
  return [...drive("root", `readonly=on,file=${path(shape.root)}`), ...drive("disk", writable), ...images.flat()];
}

/** A path as a value of QEMU's options. */
function path(name: string): string {
  return name.replaceAll(",", ",,");
}

export class Machine {
  readonly channel: Channel;
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #monitor: Promise<Qmp>;
  #console = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.channel = new Channel(child.stdio[CHANNEL_FD] as Socket);
    this.#monitor = Qmp.over(child.stdio[QMP_FD] as Socket);
    // Whoever asks for it hears of it.
    this.#monitor.catch(() => {});
    for (const stream of [child.stdout, child.stderr] as Readable[]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        this.#console = (this.#console + text).slice(-CONSOLE_CHARACTERS);
      });
    }
    this.ended = new Promise((resolve) => {
      child.once("error", (error) => resolve(`QEMU cannot be started: ${error.message}`));
      child.once("close", (status, signal) => resolve(`QEMU ended with ${signal ?? `status ${status}`}`));
    });
    void this.ended.then((how) => this.channel.lose(how));
  }

  /** `files` are open files that `shape.more` names by their descriptors, which follow those of the images. */
  static start(shape: Shape, directory: string, files: readonly number[] = []): Machine {
    const sharing = `share=${shape.thawed ? "off" : "on"}`;
    const memory = `memory-backend-file,id=ram,size=${MEMORY_MIB}M,mem-path=${path(shape.memory)},${sharing}`;
    const args = [...machineArguments(shape.netdev), "-object", memory, ...driveArguments(shape), ...shape.more];
    const child = spawn("setpriv", ["--pdeathsig=KILL", "--", QEMU, ...args], {
      stdio: ["ignore", "pipe", "pipe", "pipe", "pipe", ...shape.images, ...files],
      // A signal from the keyboard is for the lab, which ends it.
      detached: true,
      env: { ...process.env, TMPDIR: directory },
    });
    return new Machine(child);
  }

  /** The number of the first of `files`. */
  static firstFile(shape: Pick<Shape, "images">): number {
    return FIRST_FILE_FD + shape.images.length;
  }

  async qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return await (await this.#monitor).execute(command, args);
  }

  /** Waits for a migration, in or out, to be over. */
  async migrated(deadlineMs: number): Promise<void> {
    for (const end = Date.now() + deadlineMs; ; await new Promise((resolve) => setTimeout(resolve, 5))) {
      const { status, "error-desc": why } = Object(await this.qmp("query-migrate"));
      if (status === "completed") return;
      if (status === "failed" || Date.now() > end) throw new Error(`QEMU's migration: ${why ?? status ?? "no answer"}`);
    }
  }

  /** The last that the guest's console and QEMU said. */
  get said(): string {
    return this.#console.trim();
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }
}
