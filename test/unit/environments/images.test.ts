// Installing an image: one that is there and whole stays, one that is damaged is replaced, and while a large one is
// looked at nobody else waits.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Paths, pathsFor } from "../../../src/engine/paths.ts";
import { Holds } from "../../../src/environments/holds.ts";
import { findImage, installImage, prepareImage } from "../../../src/environments/images.ts";
import { layout } from "../../../src/environments/layout.ts";

const LARGE_BYTES = 256 << 20;
const signal = AbortSignal.timeout(60_000);

class Home {
  readonly directory: string;
  readonly paths: Paths;
  readonly holds = new Holds();
  #count = 0;

  constructor(directory: string) {
    this.directory = directory;
    this.paths = pathsFor({ PYRO_HOME: directory }, 0);
  }

  /** Makes an image as a pull does and returns what installs it. `content`: its bytes, or so many zeros. */
  async prepare(environment: string, content: string | number) {
    const staging = join(this.directory, `staging${this.#count++}`);
    await mkdir(staging);
    const path = join(staging, "made");
    await writeFile(path, typeof content === "string" ? content : "");
    if (typeof content === "number") await truncate(path, content);
    const made = { path, env: {}, source: { kind: "recipe", packages: [] } } as const;
    const ready = await prepareImage(environment, made, staging, signal);
    return { digest: ready.manifest.digest, install: () => installImage(this, environment, made, ready, signal) };
  }

  async inode(digest: string): Promise<number> {
    return (await stat(join(layout.image(this.paths, digest), "image.squashfs"))).ino;
  }
}

async function home(t: TestContext): Promise<Home> {
  const directory = await mkdtemp(join(tmpdir(), "images-"));
  t.after(() => rm(directory, { recursive: true }));
  return new Home(directory);
}

test("while a large image is looked at, others find and hold theirs", { timeout: 60_000 }, async (t) => {
  const here = await home(t);
  const first = await here.prepare("r.io/a:1", LARGE_BYTES);
  await first.install();
  const again = await here.prepare("r.io/b:1", LARGE_BYTES);
  const installing = again.install();
  await sleep(10);
  assert.equal(here.holds.isHeld(again.digest), true, "it could be removed meanwhile");
  const meanwhile = await here.holds.exclusively(() => findImage(here.paths, "r.io/b:1"));
  assert.equal(meanwhile, undefined, "it had to wait until the image was installed");
  assert.equal((await installing).digest, again.digest);
  assert.equal(here.holds.isHeld(again.digest), false);
});

test("a whole image stays the file that it is, whoever installs it again", async (t) => {
  const here = await home(t);
  const { digest, install } = await here.prepare("r.io/a:1", "content");
  await install();
  const inode = await here.inode(digest);
  await (await here.prepare("r.io/b:1", "content")).install();
  assert.equal(await here.inode(digest), inode);
  for (const name of ["r.io/a:1", "r.io/b:1"]) assert.equal((await findImage(here.paths, name))?.digest, digest);
  // Two at once, of which each has seen that there is none.
  const both = [await here.prepare("r.io/c:1", "other"), await here.prepare("r.io/d:1", "other")];
  const inodes = await Promise.all(both.map(async ({ install, digest }) => install().then(() => here.inode(digest))));
  assert.equal(inodes[0], inodes[1]);
});

test("a damaged one is replaced: other bytes, another size, no manifest, no file at all", async (t) => {
  const here = await home(t);
  const { digest, install } = await here.prepare("r.io/a:1", "content");
  await install();
  const image = join(layout.image(here.paths, digest), "image.squashfs");
  const manifest = join(layout.image(here.paths, digest), "manifest.json");
  const damages = [
    async () => {
      await chmod(image, 0o600);
      await writeFile(image, "CONTENT");
    },
    () => truncate(image, 3),
    () => rm(manifest),
    async () => writeFile(manifest, (await readFile(manifest, "utf8")).replaceAll(digest, "00".repeat(32))),
    async () => {
      await rm(image);
      execFileSync("mkfifo", [image]);
    },
    () => rm(layout.image(here.paths, digest), { recursive: true }),
  ];
  for (const damage of damages) {
    await damage();
    await (await here.prepare("r.io/a:1", "content")).install();
    assert.equal(await readFile(image, "utf8"), "content", damage.toString());
    assert.equal((await findImage(here.paths, "r.io/a:1"))?.digest, digest);
  }
});
