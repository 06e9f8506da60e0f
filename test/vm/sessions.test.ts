// Plays the sessions that need microVMs with the command as it is installed, in the home of the tests.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { test } from "node:test";
import { playStep, readSession } from "../cli/sessions.ts";
import { PYRO, ROOT, runOk, sharedHome } from "./harness.ts";

const SESSIONS = join(ROOT, "test", "cli", "vm");

for (const name of readdirSync(SESSIONS).filter((file) => file.endsWith(".txt"))) {
  test(`session ${name}`, async () => {
    const steps = readSession(await readFile(join(SESSIONS, name), "utf8"));
    assert.notEqual(steps.length, 0);
    // A session begins where nothing has to be built: what that prints is no part of it.
    await runOk(["--", "true"]);
    const directory = await mkdtemp(join(tmpdir(), "pyro-session-"));
    try {
      await symlink(PYRO, join(directory, "pyro"));
      const environment = {
        ...process.env,
        PYRO_HOME: sharedHome(),
        NO_COLOR: "1",
        PATH: [directory, dirname(process.execPath), process.env.PATH].join(delimiter),
      };
      for (const step of steps) assert.equal(await playStep(step, environment), undefined);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
}
