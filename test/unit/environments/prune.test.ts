// What prune removes, and what it never does: images that somebody holds, in whichever order things happen.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Paths, pathsFor } from "../../../src/engine/paths.ts";
import { layout } from "../../../src/environments/layout.ts";
import { EnvironmentStore } from "../../../src/environments/store.ts";

class Home {
  readonly directory: string;
  readonly paths: Paths;
  readonly store: EnvironmentStore;

  constructor(directory: string) {
    this.directory = directory;
    this.paths = pathsFor({ PYRO_HOME: directory }, 0);
    this.store = new EnvironmentStore(this.paths, join(directory, "guestd"), "/nowhere");
  }

  /** Puts an image on the disk as a pull leaves it; the same content has the same digest. */
  async install(environment: string, content: string): Promise<string> {
    const digest = createHash("sha256").update(content).digest("hex");
    const image = layout.image(this.paths, digest);
    await mkdir(image, { recursive: true });
    await mkdir(layout.names(this.paths), { recursive: true });
    await writeFile(join(image, "image.squashfs"), content);
    const common = { schema_version: 1, environment, digest, env: {} };
    const manifest = {
      ...common,
      size_bytes: content.length,
      created_at: "2026-01-01T00:00:00Z",
      base_type: "squashfs",
    };
    await writeFile(join(image, "manifest.json"), JSON.stringify(manifest));
    await writeFile(layout.name(this.paths, environment), JSON.stringify(common));
    return digest;
  }

  async digests(): Promise<string[]> {
    return (await readdir(layout.images(this.paths))).sort();
  }

  async prune(all: boolean, dryRun = false): Promise<string[]> {
    return (await this.store.prune({ all, dryRun })).map(({ kind, name }) => `${kind} ${name}`).sort();
  }
}

async function home(t: TestContext): Promise<Home> {
  const directory = await mkdtemp(join(tmpdir(), "prune-"));
  t.after(() => rm(directory, { recursive: true }));
  return new Home(directory);
}

test("images without a name go, those with one only with all, and a dry run only tells", async (t) => {
  const here = await home(t);
  const old = await here.install("r.io/a:1", "old");
  const now = await here.install("r.io/a:1", "new");
  assert.deepEqual(await here.prune(false, true), [`image ${old}`]);
  assert.deepEqual(await here.digests(), [old, now].sort());
  assert.deepEqual(await here.prune(false), [`image ${old}`]);
  assert.deepEqual(await here.digests(), [now]);
  assert.equal((await here.store.installed("r.io/a:1"))?.digest, now);
  assert.deepEqual(await here.prune(false), []);

  const all = await here.store.prune({ all: true, dryRun: false });
  assert.deepEqual(
    all.map(({ kind, name, environments }) => [kind, name, environments]),
    [["image", now, ["r.io/a:1"]]],
  );
  assert.ok((all[0]?.size_bytes ?? 0) >= 4096);
  assert.deepEqual(await here.digests(), []);
  assert.equal(await here.store.installed("r.io/a:1"), undefined);
  assert.deepEqual(await readdir(layout.names(here.paths)), []);
});

test("what is held stays until its last holder lets go, under every name it has", async (t) => {
  const here = await home(t);
  const digest = await here.install("r.io/a:1", "same");
  await here.install("r.io/b:1", "same");
  const first = await here.store.acquire("r.io/a:1");
  const second = await here.store.acquire("r.io/b:1");
  const third = here.store.hold(digest);
  assert.equal((await here.store.inspect("r.io/b:1")).inUse, true);
  first.release();
  first.release();
  assert.deepEqual(await here.prune(true), []);
  second.release();
  assert.deepEqual(await here.prune(true), []);
  await access(first.imagePath);
  third();
  assert.equal((await here.store.inspect("r.io/a:1")).inUse, false);
  assert.deepEqual(await here.prune(true), [`image ${digest}`]);
});

test("between finding an image and holding it nothing can remove it", async (t) => {
  const here = await home(t);
  let pruned = 0;
  for (let round = 0; round < 60; round++) {
    await here.install("r.io/a:1", "x");
    // In every order in which the two can begin.
    const acquiring = here.store.acquire("r.io/a:1").catch(() => undefined);
    for (let turn = 0; turn < round % 20; turn++) await Promise.resolve();
    const removing = here.store.prune({ all: true, dryRun: false });
    const [held, removed] = await Promise.all([acquiring, removing]);
    if (held === undefined) {
      // It had gone before: then it has gone whole.
      assert.equal(removed.length, 1);
      pruned++;
      continue;
    }
    await access(held.imagePath);
    assert.deepEqual(
      removed.filter(({ kind }) => kind === "image"),
      [],
    );
    held.release();
  }
  assert.ok(pruned < 60, "it was never held");
});

test("superseded kernels and boot files, what dead builders left, logs; not what is needed", async (t) => {
  const here = await home(t);
  await writeFile(join(here.directory, "guestd"), "guestd");
  const places = {
    oldKernel: layout.kernel(here.paths, "6.1.9-1"),
    kernel: layout.kernel(here.paths, "6.1.10-1"),
    boot: layout.boot(here.paths, "00".repeat(32)),
    staging: join(here.paths.environments, ".staging-dead"),
  };
  for (const directory of Object.values(places)) await mkdir(directory, { recursive: true });
  for (const [directory, version] of [
    [places.oldKernel, "6.1.9-1"],
    [places.kernel, "6.1.10-1"],
  ] as const) {
    const named = { package: "linux-image", version, release: version, vmlinuz_sha256: "00".repeat(32) };
    await writeFile(join(directory, "kernel.json"), JSON.stringify({ schema_version: 1, ...named }));
  }
  await mkdir(layout.logs(here.paths), { recursive: true });
  await writeFile(layout.log(here.paths, "debian:12"), "log");
  const expected = [`boot ${"00".repeat(32)}`, "kernel 6.1.9-1", "log debian%3A12.log", "staging .staging-dead"];
  assert.deepEqual(await here.prune(false, true), expected);
  assert.deepEqual(await here.prune(false), expected);
  await access(places.kernel);
  assert.deepEqual((await readdir(here.paths.environments)).sort(), ["boot", "kernels", "logs"]);
  assert.deepEqual(await here.prune(true), []);
});

test("a name whose image is damaged goes with it; a reference longer than a file's name can be is kept apart", async (t) => {
  const here = await home(t);
  const digest = await here.install("r.io/a:1", "whole");
  await writeFile(join(layout.image(here.paths, digest), "image.squashfs"), "cut");
  const long = `r.io/${"a".repeat(400)}:1`;
  await here.install(long, "long");
  assert.ok((await here.store.list()).some(({ environment }) => environment === long));
  assert.deepEqual(await here.prune(false), [`image ${digest}`]);
  assert.deepEqual(await here.store.installed("r.io/a:1"), undefined);
  assert.equal((await here.store.installed(long))?.environment, long);
});

test("two at once remove everything once, and neither fails", async (t) => {
  const here = await home(t);
  for (let round = 0; round < 20; round++) {
    const images = [];
    for (let n = 0; n < 5; n++) images.push(`image ${await here.install("r.io/a:1", `${round} ${n}`)}`);
    const others = [];
    await mkdir(layout.logs(here.paths), { recursive: true });
    for (let n = 0; n < 20; n++) {
      await writeFile(layout.log(here.paths, `log${n}`), "log");
      await mkdir(join(here.paths.environments, `.staging-${n}`));
      others.push(`log log${n}.log`, `staging .staging-${n}`);
    }
    const removed = await Promise.all([here.prune(true), here.prune(true)]);
    assert.deepEqual(removed.flat().sort(), [...images, ...others].sort());
  }
});

test("a record in the place of another's is nobody's: nothing fails on it", async (t) => {
  const here = await home(t);
  const digest = await here.install("r.io/a:1", "x");
  const stray = join(layout.names(here.paths), "stray.json");
  await rename(layout.name(here.paths, "r.io/a:1"), stray);
  assert.ok((await here.store.list()).every(({ environment }) => environment !== "r.io/a:1"));
  assert.deepEqual(await here.prune(true), [`image ${digest}`]);
  assert.deepEqual(await here.prune(true), []);
});
