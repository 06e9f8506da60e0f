// A template is refused when one byte of it has changed, and made again without the caller noticing; of many, those used
// last are kept.
import assert from "node:assert/strict";
import { readdir, readFile, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { FreshStarts } from "../../src/engine/fresh.ts";
import { Templates } from "../../src/engine/templates.ts";
import { flipByte } from "./faulty.ts";
import { ownHome, pyro, runOk } from "./harness.ts";
import { MachineRoom } from "./machines.ts";

for (const part of ["state", "memory"] as const) {
  test(`a template with one byte of its ${part} changed is rebuilt`, { timeout: 300_000 }, async () => {
    await using home = await ownHome({ templates: false });
    await runOk(["--", "true"], { env: home.env });
    const [key = ""] = (await readdir(home.paths.templates)).filter((name) => !name.startsWith("."));
    const directory = join(home.paths.templates, key);
    // Not the directory's inode: a new one may get the number of the old.
    const before = await stat(join(directory, "template.json"));
    // The launcher holds loaded memory; after it has gone the file is read again.
    await pyro(["daemon", "stop"], { env: home.env });
    await flipByte(join(directory, part));
    assert.equal(await runOk(["--", "echo", "fine"], { env: home.env }), "fine\n");
    const after = await stat(join(directory, "template.json"));
    assert.notEqual(after.mtimeMs, before.mtimeMs, "the damaged template was kept");
    const record = JSON.parse(await readFile(join(directory, "template.json"), "utf8")) as { key: string };
    assert.equal(record.key, key);
  });
}

test("beyond the limit the least recently used goes, and none that a start may just be using", async () => {
  await using room = await MachineRoom.open();
  const templates = new Templates(room.paths, room.driver, { limit: 1 });
  const ensure = async (memMib: number) => await templates.ensure({ ...room.spec, memMib }, () => {});
  const kept = async () => (await readdir(room.paths.templates)).sort();
  const held = async () =>
    (await room.launcher.call((calls, options) => calls.hello({}, options))).memories
      .map(({ templateId }) => templateId)
      .sort();
  const first = await ensure(256);
  const second = await ensure(272);
  assert.deepEqual(await kept(), [first.key, second.key].sort(), "both were asked for a moment ago");
  const longAgo = new Date(Date.now() - 3_600_000);
  await utimes(first.directory, longAgo, longAgo);
  await ensure(272);
  const third = await ensure(288);
  assert.deepEqual(await kept(), [second.key, third.key].sort());
  assert.deepEqual(await held(), [second.key, third.key].sort(), "its memory went with it");
  await assert.rejects(
    room.driver.restore(first, { ...room.spec, memMib: 256 }, "gone", { drives: {}, ephemeral: true }),
  );
});

test("several starts that find the same one damaged share one that is made anew", { timeout: 300_000 }, async () => {
  await using room = await MachineRoom.open();
  const prepared = await room.prepared();
  const starts = new FreshStarts();
  const directory = await room.scratch("starts");
  const start = async (machineId: string) =>
    await starts.start(
      prepared,
      { machineId, diskPath: join(directory, `${machineId}.ext4`), signal: AbortSignal.timeout(120_000) },
      () => {},
    );
  await flipByte(join(prepared.template.directory, "state"));
  const record = async () => (await stat(join(prepared.template.directory, "template.json"))).mtimeMs;
  const damaged = await record();
  const together = await Promise.all(["one", "two", "three"].map(start));
  const made = await record();
  assert.notEqual(made, damaged);
  // Whoever comes late with the one that was damaged gets the new one as it is.
  const late = await room.templates.remake(prepared.template, prepared.spec, () => {});
  assert.notEqual(late.generation, prepared.template.generation);
  assert.equal(await record(), made);
  for (const vm of together) {
    await vm.check();
    await vm.kill();
  }
});
