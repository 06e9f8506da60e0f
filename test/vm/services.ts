// What the tests of services share: a server that the guest can run, and services by the words that a user types.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { OutputOf } from "../../src/operations/table.ts";
import type { Finished, Started } from "./harness.ts";
import { scratch, type Workspace, type Workspaces } from "./workspaces.ts";

export type ServiceRecord = OutputOf<"service.status">;

/** An HTTP server that says each request; `/slow` takes its time. */
const SERVER = `
import signal, socket, sys
port, delay = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0
def end(*_):
    print("going down", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("starting", flush=True)
if delay:
    import time
    time.sleep(delay)
listener = socket.create_server(("127.0.0.1", port))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    line = connection.recv(65536).decode(errors="replace").split("\\r\\n")[0]
    print("asked:", line, flush=True)
    status = b"404 Not Found" if "/missing" in line else b"302 Found" if "/moved" in line else b"200 OK"
    connection.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 6\\r\\nLocation: /missing\\r\\n\\r\\nhello\\n")
    connection.close()
`;

const CLIENT = `
import socket, sys
paths = [sys.argv[2]]
if sys.argv[2].isdigit():
    paths = ["/%d/%s" % (n, "x" * 300) for n in range(1, int(sys.argv[2]) + 1)]
for path in paths:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(b"GET " + path.encode() + b" HTTP/1.0\\r\\n\\r\\n")
        print(connection.recv(65536).decode().split("\\r\\n\\r\\n", 1)[1], end="")
`;

/** server.py PORT [DELAY] and client.py PORT PATH or COUNT (for /1/xxx... and so on), in /workspace. */
export async function pushPrograms(workspace: Workspace): Promise<void> {
  await using tree = await scratch();
  await writeFile(join(tree.path, "server.py"), SERVER);
  await writeFile(join(tree.path, "client.py"), CLIENT);
  await workspace.push(tree.path);
}

export const server = (port: number, delay = 0): string[] => ["python3", "server.py", String(port), String(delay)];

/** `pyro workspace service` for one workspace. */
export class Services {
  readonly #all: Workspaces;
  readonly #workspace: string;

  constructor(all: Workspaces, workspace: string) {
    this.#all = all;
    this.#workspace = workspace;
  }

  words(verb: string, args: readonly string[]): string[] {
    return ["service", verb, this.#workspace, ...args];
  }

  async start(name: string, args: readonly string[], command: readonly string[]): Promise<ServiceRecord> {
    return await this.#all.ask(this.words("start", [name, ...args, "--", ...command]));
  }

  /** Not waited for. */
  starting(name: string, args: readonly string[], command: readonly string[]): Started {
    return this.#all.start(this.words("start", [name, ...args, "--", ...command]));
  }

  async finish(verb: string, args: readonly string[]): Promise<Finished> {
    return await this.#all.finish(this.words(verb, args));
  }

  async status(name: string): Promise<ServiceRecord> {
    return await this.#all.ask(this.words("status", [name]));
  }

  async list(): Promise<readonly ServiceRecord[]> {
    return (await this.#all.ask<OutputOf<"service.list">>(this.words("list", []))).services;
  }

  async stop(name: string, args: readonly string[] = []): Promise<ServiceRecord> {
    return await this.#all.ask(this.words("stop", [name, ...args]));
  }

  /** All that it printed on stdout. */
  async log(name: string): Promise<string> {
    return (await this.finish("logs", [name, "--tail", "all", "--quiet"])).stdout.toString();
  }
}
