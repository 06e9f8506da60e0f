// Sockets in a directory that a VMM owns: what a taken-over one puts there is not followed.
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectOwn, openToAll } from "../../../src/drivers/socket.ts";

test("a socket is opened to all and connected to; a link or a file in its place is not", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-socket-"));
  const path = join(directory, "own.sock");
  const server = await listen(path);
  try {
    await chmod(path, 0o600);
    await openToAll(path);
    assert.equal((await stat(path)).mode & 0o777, 0o666);
    (await connectOwn(path)).destroy();

    await chmod(path, 0o600);
    const link = join(directory, "link.sock");
    await symlink(path, link);
    const file = join(directory, "file.sock");
    await writeFile(file, "", { mode: 0o600 });
    const toFile = join(directory, "to-file.sock");
    await symlink(file, toFile);
    for (const wrong of [link, file, toFile]) {
      await assert.rejects(openToAll(wrong), /is not a socket/, wrong);
      await assert.rejects(connectOwn(wrong), /is not a socket/, wrong);
    }
    for (const untouched of [path, file]) assert.equal((await stat(untouched)).mode & 0o777, 0o600);
  } finally {
    server.close();
    await rm(directory, { recursive: true, force: true });
  }
});

async function listen(path: string): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(path, resolve);
  });
  return server;
}
