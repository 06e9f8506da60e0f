// Registries for tests: Debian's docker-registry, the real server, and one that can be made to lie.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { unpackedPackage } from "../debian-package.ts";
import { digestOf, type Image } from "./image.ts";

const PACKAGE = "docker-registry";

export class RealRegistry implements AsyncDisposable {
  readonly host: string;
  readonly #child: ChildProcess;
  readonly #directory: string;

  private constructor(host: string, child: ChildProcess, directory: string) {
    this.host = host;
    this.#child = child;
    this.#directory = directory;
  }

  static async start(): Promise<RealRegistry> {
    const program = join(await unpackedPackage(PACKAGE), "usr", "bin", PACKAGE);
    const directory = await mkdtemp(join(tmpdir(), "registry-"));
    const port = await freePort();
    const host = `127.0.0.1:${port}`;
    const config = join(directory, "config.yml");
    await writeFile(
      config,
      `version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: ${join(directory, "data")}}}\nhttp: {addr: "${host}"}\n`,
    );
    const child = spawn(program, ["serve", config], { stdio: "ignore" });
    const registry = new RealRegistry(host, child, directory);
    for (let tries = 0; ; tries++) {
      const up = await fetch(`http://${host}/v2/`).then(
        ({ status }) => status === 200,
        () => false,
      );
      if (up) return registry;
      if (tries > 100 || child.exitCode !== null) throw new Error(`${program} does not serve`);
      await sleep(100);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.#child.exitCode === null ? once(this.#child, "exit") : undefined;
    this.#child.kill("SIGKILL");
    await ended;
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Answers a request for `kind` ("manifests", "blobs" or "") in its own way, or returns false to have it served. */
export type Misbehave = (
  kind: string,
  reference: string,
  response: ServerResponse,
  request: IncomingMessage,
) => boolean;

/** A registry of one image, in every repository and under every tag, that misbehaves by the name of the repository. */
export class LyingRegistry implements AsyncDisposable {
  readonly host: string;
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(image: Image, ways: Readonly<Record<string, Misbehave>>): Promise<LyingRegistry> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const registry = new LyingRegistry(server);
    server.on("request", (request, response) => {
      registry.asked.push(request.url ?? "");
      const [, repository = "", kind = "", reference = ""] =
        /^\/v2\/(?:(.+)\/(manifests|blobs)\/(.+))?$/.exec(request.url ?? "") ?? [];
      if (ways[repository]?.(kind, reference, response, request)) return;
      if (kind === "") response.end("{}");
      else if (kind === "manifests") serveManifest(response, image);
      else response.end(image.blobs.get(reference));
    });
    return registry;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export function serveManifest(response: ServerResponse, { manifest, mediaType }: Image): void {
  response.setHeader("content-type", mediaType);
  response.setHeader("docker-content-digest", digestOf(manifest));
  response.end(manifest);
}
