// A server beside the commands that use it: started, waited for until it is ready, asked, and stopped, with its log.
//
//   node examples/service.ts
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pyro, PyroError } from "pyro-mcp";

const SERVER = `
import socket
listener = socket.create_server(("127.0.0.1", 8000))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    print(connection.recv(4096).decode().split("\\r\\n")[0], flush=True)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n")
    connection.close()
`;
const ASK = `
import socket
with socket.create_connection(("127.0.0.1", 8000)) as connection:
    connection.sendall(b"GET /greeting HTTP/1.0\\r\\n\\r\\n")
    print(connection.makefile().read().splitlines()[-1])
`;

const project = await mkdtemp(join(tmpdir(), "project-"));
try {
  await writeFile(join(project, "server.py"), SERVER);
  await writeFile(join(project, "ask.py"), ASK);
  await using pyro = new Pyro();
  await using workspace = await pyro.createWorkspace({
    seedPath: project,
    labels: { example: "service" },
    ephemeral: true,
  });

  // Without a server there is nothing to ask; a service that ends before it is ready says why.
  const missing = workspace.service.start({
    serviceName: "web",
    command: "python3 sever.py",
    readyTcp: "localhost:8000",
  });
  await missing.catch((error: unknown) => {
    if (!(error instanceof PyroError) || error.code !== "SERVICE_FAILED") throw error;
    console.log(`${error.message}\n  ${String(error.details.log_tail).trim().split(": ").at(-1)}`);
  });

  const web = await workspace.service.start({
    serviceName: "web",
    command: ["python3", "server.py"],
    readyHttp: "http://localhost:8000/",
  });
  console.log(`web is ${web.started?.state}`);
  console.log(`it says ${(await workspace.exec(["python3", "ask.py"], { check: true })).stdout.trim()}`);

  const { state, stopReason } = await web.stop();
  console.log(`web is ${state}: ${stopReason}`);
  console.log((await web.logs({ tail: 1 })).output.trim());
} finally {
  await rm(project, { recursive: true });
}
