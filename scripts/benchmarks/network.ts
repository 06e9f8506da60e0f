// What a network costs a guest: a connection made and answered, and bytes in one direction, beside passt. The other end is
// a host in a network namespace of this machine (test/network), so where that cannot be made, as an ordinary user, there are
// no rows.
import { Pyro } from "pyro-mcp";
import { HOST, NO_INTERNET, openInternet } from "../../test/network/internet.ts";
import { stop } from "./commands.ts";
import { type InGuest, withPasst } from "./passt.ts";
import { median, type Row } from "./samples.ts";

const DOWNLOAD_BYTES = 64 << 20;
/** How many times slower than passt it may be. */
const SLOWER = 2;
/** As many as the guest has that passt is measured in. */
const VCPUS = 2;

interface Figures {
  readonly connections: readonly number[];
  readonly downloads: readonly number[];
}

export async function networks(count: number): Promise<Row[]> {
  if (NO_INTERNET !== false) return [];
  await stop();
  await using internet = await openInternet({});
  Object.assign(process.env, internet.env);
  try {
    const own = await throughNetd(count);
    const other = await withPasst(internet.env.PYRO_NETWORK_NAMESPACE ?? "", (run) => measure(run, count));
    return [
      ...rows(
        "a connection from the guest, made and answered",
        "curl, per connection",
        own.connections,
        other?.connections,
      ),
      ...rows("a download of 64 MiB in the guest", "curl -sS -o /dev/null", own.downloads, other?.downloads),
    ];
  } finally {
    for (const name of Object.keys(internet.env)) delete process.env[name];
    await stop();
  }
}

function rows(name: string, command: string, own: readonly number[], other: readonly number[] | undefined): Row[] {
  const row = { name, command, unit: "ms", samples: own } as const;
  if (other === undefined) return [row];
  return [
    { ...row, target: SLOWER * median(other) },
    { ...row, name: `${name}, through passt`, samples: other },
  ];
}

async function throughNetd(count: number): Promise<Figures> {
  await using pyro = new Pyro();
  await using workspace = await pyro.createWorkspace({ ephemeral: true, networkPolicy: "egress", vcpuCount: VCPUS });
  const run: InGuest = async (line) => (await workspace.exec(["sh", "-c", line], { check: true })).stdout;
  return await measure(run, count);
}

async function measure(run: InGuest, count: number): Promise<Figures> {
  const times = async (line: string): Promise<number[]> =>
    (await run(line))
      .trim()
      .split("\n")
      .map((seconds) => 1000 * Number(seconds));
  const curl = "curl -sS -o /dev/null -w '%{time_total}\\n' -H 'Connection: close'";
  const downloads: number[] = [];
  for (let round = 0; round < Math.min(count, 5); round++) {
    downloads.push(...(await times(`${curl} http://${HOST}/bytes/${DOWNLOAD_BYTES}`)));
  }
  // The first has what is done once.
  const connections = (await times(`${curl} 'http://${HOST}/[0-${4 * count}]'`)).slice(1);
  return { connections, downloads };
}
