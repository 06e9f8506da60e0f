// What a network costs a guest: a connection made and answered, and bytes in one direction. The other end is a host in a
// network namespace of this machine (test/network), so where that cannot be made, as an ordinary user, there are no rows.
import { Pyro } from "pyro-mcp";
import { HOST, NO_INTERNET, openInternet } from "../../test/network/internet.ts";
import { stop } from "./commands.ts";
import type { Row } from "./samples.ts";

const DOWNLOAD_BYTES = 64 << 20;

/** Says how long each of so many connections took that was answered with one byte, ms. */
const CONNECT = (count: number) =>
  [
    "import socket, time",
    `for i in range(${count}):`,
    "  t = time.monotonic()",
    `  s = socket.create_connection(('${HOST}', 7))`,
    "  s.sendall(b'x')",
    "  s.recv(1)",
    "  print((time.monotonic() - t) * 1000)",
    "  s.close()",
  ].join("\n");

export async function networks(count: number): Promise<Row[]> {
  if (NO_INTERNET !== false) return [];
  await stop();
  await using internet = await openInternet({ "ok.example": [[HOST]] });
  Object.assign(process.env, internet.env);
  try {
    await using pyro = new Pyro();
    await using workspace = await pyro.createWorkspace({ ephemeral: true, networkPolicy: "egress" });
    const numbers = async (command: readonly string[]): Promise<number[]> => {
      const { stdout } = await workspace.exec({ command: [...command] }, { check: true });
      return stdout.trim().split("\n").map(Number);
    };
    const url = `http://ok.example/bytes/${DOWNLOAD_BYTES}`;
    const download = ["curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", url];
    const times: number[] = [];
    for (let round = 0; round < Math.min(count, 5); round++) {
      times.push(...(await numbers(download)).map((seconds) => seconds * 1000));
    }
    return [
      {
        name: "a connection from the guest, made and answered",
        command: "connect, send, receive in Python",
        unit: "ms",
        samples: await numbers(["python3", "-c", CONNECT(4 * count)]),
      },
      {
        name: "a download of 64 MiB in the guest",
        command: download.slice(0, 4).join(" "),
        unit: "ms",
        samples: times,
      },
    ];
  } finally {
    for (const name of Object.keys(internet.env)) delete process.env[name];
    await stop();
  }
}
