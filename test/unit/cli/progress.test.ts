// Progress as a person sees it: on a real terminal, which script(1) makes, and the words of its one line.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { progressLine } from "../../../src/cli/progress.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { Conversation, listen, temporaryHome } from "../client/fake-daemon.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const MIB = 1 << 20;
const fetching = { message: "Fetching docker.io/library/node:22", fraction: 0.171 };

test("a line says how far it is in bytes where they are known, and for how long it goes on after a while", () => {
  assert.equal(progressLine({ message: "Unpacking", fraction: null }, 0, 79), "Unpacking");
  assert.equal(progressLine({ ...fetching }, 2999, 79), "Fetching docker.io/library/node:22 17%");
  const bytes = { ...fetching, bytes: 12.3 * MIB, total_bytes: 48 * MIB };
  assert.equal(progressLine(bytes, 0, 79), "Fetching docker.io/library/node:22 17%, 12.3 of 48.0 MiB");
  assert.equal(progressLine(bytes, 4200, 79), "Fetching docker.io/library/node:22 17%, 12.3 of 48.0 MiB, 4 s");
  assert.equal(progressLine({ message: "Booting", fraction: null }, 65_000, 79), "Booting, 1 min 05 s");
});

test("where there is little room the figures stay", () => {
  const bytes = { ...fetching, bytes: 12.3 * MIB, total_bytes: 48 * MIB };
  assert.equal(progressLine(bytes, 0, 30), "Fetching 17%, 12.3 of 48.0 MiB");
  assert.equal(progressLine(bytes, 61_000, 20).length, 20);
});

test("a terminal is told of bytes, and of the time while nothing else comes; nothing of it stays", {
  timeout: 30_000,
}, async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    const told = { type: "progress", stage: "layers", ...fetching, bytes: 12.3 * MIB, total_bytes: 48 * MIB };
    talk.json(ToClient.Event, told);
    await sleep(4600);
    talk.finish({ environment: "docker.io/library/node:22", digest: null, installed: true, size_bytes: null });
  });
  const line = `stty cols 100; exec ${process.execPath} ${PYRO} env pull docker.io/library/node:22`;
  const child = spawn("script", ["-qec", line, "/dev/null"], {
    env: { ...process.env, PYRO_HOME: home.directory, SHELL: "/bin/sh", TERM: "xterm" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let seen = "";
  child.stdout.on("data", (chunk: Buffer) => {
    seen += chunk;
  });
  await once(child, "close");
  assert.match(seen, /17%, 12\.3 of 48\.0 MiB\r/);
  assert.match(seen, /17%, 12\.3 of 48\.0 MiB, 3 s\r.*17%, 12\.3 of 48\.0 MiB, 4 s\r/s);
  assert.ok(seen.endsWith("\r\x1b[Kdocker.io/library/node:22 is installed.\r\n"), JSON.stringify(seen));
});

test("what a registry or a path put into a message steers no terminal", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "progress", stage: "x", message: "Sending \x1b]0;mine\x07\n a", fraction: null });
    talk.finish({ environment: "debian:12", digest: null, installed: true, size_bytes: null });
  });
  const child = spawn(process.execPath, [PYRO, "env", "pull", "debian:12"], {
    env: { ...process.env, PYRO_HOME: home.directory },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk;
  });
  await once(child, "close");
  assert.equal(said, "Sending \\x1b]0;mine\\x07\\n a\n");
});
