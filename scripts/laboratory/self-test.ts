// Shows that the lab is what it is for: real Firecracker boots Debian's kernel in it, to the first words of its init.
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import { vmlinuxOf } from "../../src/environments/vmlinux.ts";
import type { Cache } from "./cache.ts";
import { Luggage } from "./carry.ts";
import type { Say } from "./failure.ts";
import type { Outer } from "./outer.ts";
import { run } from "./run.ts";

/** What go/cmd/labd says when it is started with LAB_SELF_TEST in a microVM. */
const SAID = "labd: a microVM runs its init";
const TIMEOUT_SECONDS = 180;

/** Gives the exit status. */
export async function selfTest(cache: Cache, outer: Outer, say: Say, signal: AbortSignal): Promise<number> {
  const directory = await mkdtemp(join(cache.directory, "run-"));
  const luggage = new Luggage();
  try {
    await writeFile(join(directory, "vmlinux"), vmlinuxOf(await readFile(outer.vmlinuz)));
    const config = {
      "boot-source": {
        kernel_image_path: "/t/vmlinux",
        initrd_path: "/t/initramfs",
        boot_args: "console=ttyS0 quiet reboot=k panic=-1 LAB_SELF_TEST=1",
      },
      drives: [],
      "machine-config": { vcpu_count: 1, mem_size_mib: 256 },
    };
    await writeFile(join(directory, "config.json"), JSON.stringify(config));
    await copyFile(outer.initramfs, join(directory, "initramfs"));
    await luggage.packOthers([{ host: directory, guest: "/t" }], cache.directory, signal);
    let said = "";
    const listen = new Writable({
      write: (chunk: Buffer, _, done) => {
        said += chunk.toString("utf8");
        done();
      },
    });
    const line = "date +%s; time firecracker --no-api --config-file /t/config.json </dev/null";
    const command = ["bash", "-c", line];
    const asked = { command, luggage, fetched: [], asUser: false, timeoutSeconds: TIMEOUT_SECONDS };
    const status = await run(cache, outer, { ...asked, stdout: listen, stderr: listen }, say, signal);
    const behind = Math.abs(Date.now() / 1000 - Number(said.split("\n")[0]));
    if (status === 0 && said.includes(SAID) && behind < TIMEOUT_SECONDS) {
      say(`Firecracker ran a microVM (${/real\s+(\S+)/.exec(said)?.[1]} from its start to its end)`);
      return 0;
    }
    say(`Firecracker did not run a microVM; its status is ${status}:\n${said}`);
    return 1;
  } finally {
    luggage.close();
    await rm(directory, { recursive: true, force: true });
  }
}
