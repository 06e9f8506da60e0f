// What is installed, as read from disk; damaged records; staging directories of dead builders.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pathsFor } from "../../../src/engine/paths.ts";
import { removeStale, withStaging } from "../../../src/environments/staging.ts";
import { EnvironmentStore } from "../../../src/environments/store.ts";
import { PyroError } from "../../../src/errors/error.ts";

const DIGEST = "ab".repeat(32);

async function home(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "home-"));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

function storeAt(directory: string): EnvironmentStore {
  return new EnvironmentStore(pathsFor({ PYRO_HOME: directory }, 0), join(directory, "guestd"));
}

async function install(directory: string): Promise<void> {
  const image = join(directory, "environments", "images", DIGEST);
  await mkdir(image, { recursive: true });
  await mkdir(join(directory, "environments", "names"));
  await writeFile(join(image, "image.squashfs"), "12345");
  const manifest = {
    schema_version: 1,
    environment: "debian:12",
    digest: DIGEST,
    size_bytes: 5,
    created_at: "2026-01-01T00:00:00.000Z",
    base_type: "squashfs",
    env: { PATH: "/bin" },
  };
  await writeFile(join(image, "manifest.json"), JSON.stringify(manifest));
  const record = { schema_version: 1, environment: "debian:12", digest: DIGEST };
  await writeFile(join(directory, "environments", "names", "debian%3A12.json"), JSON.stringify(record));
}

test("an empty home lists its recipes as not installed", async (t) => {
  const store = storeAt(await home(t));
  assert.deepEqual(
    await store.list(),
    ["debian:12", "debian:12-base", "debian:12-build"].map((environment) => ({
      environment,
      digest: null,
      installed: false,
      size_bytes: null,
    })),
  );
  assert.equal(await store.installed("debian:12"), undefined);
});

test("an installed image is found, and a pull of it builds nothing", async (t) => {
  const directory = await home(t);
  await install(directory);
  const store = storeAt(directory);
  const found = await store.pull("debian:12", () => assert.fail("nothing to do"));
  assert.deepEqual(found, {
    environment: "debian:12",
    digest: DIGEST,
    size_bytes: 5,
    imagePath: join(directory, "environments", "images", DIGEST, "image.squashfs"),
    baseType: "squashfs",
    env: { PATH: "/bin" },
  });
  assert.equal((await store.list())[0]?.installed, true);
});

test("a damaged image, record or manifest counts as not installed", async (t) => {
  const directory = await home(t);
  const store = storeAt(directory);
  const image = join(directory, "environments", "images", DIGEST);
  const name = join(directory, "environments", "names", "debian%3A12.json");
  const record = { schema_version: 1, environment: "debian:12", digest: DIGEST };
  const manifest = { ...record, size_bytes: 5, created_at: "2026-01-01T00:00:00Z", base_type: "squashfs", env: {} };
  const oci = { kind: "oci", manifest_digest: "", index_digest: null, config_digest: "", platform: "", layers: [] };
  const damage: [string, string][] = [
    [join(image, "image.squashfs"), "1234"],
    [join(image, "manifest.json"), "{"],
    // That of another image, of another make, and with what is no environment.
    [join(image, "manifest.json"), JSON.stringify({ ...manifest, digest: "cd".repeat(32) })],
    [join(image, "manifest.json"), JSON.stringify({ ...manifest, schema_version: 2 })],
    [join(image, "manifest.json"), JSON.stringify({ ...manifest, env: { PATH: 1 } })],
    [name, "null"],
    [name, JSON.stringify({ ...record, digest: "../../etc" })],
    [name, JSON.stringify({ ...record, environment: "debian:12-base" })],
    [name, JSON.stringify({ ...record, env: ["PATH=/bin"] })],
    [name, JSON.stringify({ ...record, env: null })],
    [name, JSON.stringify({ ...record, source: { ...oci, layers: null } })],
    [name, JSON.stringify({ ...record, source: { kind: "elsewhere" } })],
  ];
  for (const [path, text] of damage) {
    await rm(join(directory, "environments"), { recursive: true, force: true });
    await install(directory);
    await writeFile(path, text);
    assert.equal(await store.installed("debian:12"), undefined, `${path}: ${text}`);
    assert.equal((await store.list())[0]?.installed, false, `${path}: ${text}`);
  }
  // And none of these is damaged.
  for (const [path, text] of [
    [join(image, "manifest.json"), JSON.stringify(manifest)],
    [name, JSON.stringify({ ...record, source: oci })],
  ] as const) {
    await rm(join(directory, "environments"), { recursive: true });
    await install(directory);
    await writeFile(path, text);
    assert.equal((await store.installed("debian:12"))?.digest, DIGEST);
  }
});

test("a pipe in the place of a record is none, and is not waited for", { timeout: 20_000 }, async (t) => {
  const directory = await home(t);
  const store = storeAt(directory);
  for (const path of ["names/debian%3A12.json", `images/${DIGEST}/manifest.json`, `images/${DIGEST}/image.squashfs`]) {
    await rm(join(directory, "environments"), { recursive: true, force: true });
    await install(directory);
    await rm(join(directory, "environments", path));
    execFileSync("mkfifo", [join(directory, "environments", path)]);
    assert.equal((await store.list())[0]?.installed, false, path);
  }
});

test("an unknown environment is refused, with near names", async (t) => {
  const store = storeAt(await home(t));
  for (const name of ["debain:12", "debian:13", "DEBIAN:12"]) {
    await assert.rejects(store.pull(name), (error) => {
      assert.ok(error instanceof PyroError);
      assert.equal(error.code, "ENVIRONMENT_NOT_FOUND");
      assert.equal((error.details.near as string[])[0], "debian:12", name);
      return true;
    });
  }
  await assert.rejects(store.installed("some/../etc/passwd"), (error) => {
    assert.ok(error instanceof PyroError && error.code === "ENVIRONMENT_NOT_FOUND");
    assert.deepEqual(error.details.near, []);
    return true;
  });
  await assert.rejects(
    store.installed("../../etc/passwd"),
    (error) => error instanceof PyroError && error.code === "INVALID_INPUT",
  );
});

test("without guestd there are no boot artifacts, and the error says how to get it", async (t) => {
  await assert.rejects(
    storeAt(await home(t)).boot(),
    (error) => error instanceof PyroError && error.code === "HOST_TOOL_MISSING" && /make setup/.test(error.hint),
  );
});

test("without pyro-image there are no images of registries, and the error says how to get it", async (t) => {
  const directory = await home(t);
  const store = new EnvironmentStore(pathsFor({ PYRO_HOME: directory }, 0), "/nowhere/guestd", "/nowhere/pyro-image");
  await assert.rejects(
    store.pull("127.0.0.1:1/x"),
    (error) => error instanceof PyroError && error.code === "HOST_TOOL_MISSING" && /make setup/.test(error.hint),
  );
  assert.deepEqual(await readdir(join(directory, "environments")), ["logs"]);
});

test("staging directories of dead builders go, those of living ones and everything else stay", async (t) => {
  const directory = await home(t);
  await mkdir(join(directory, "images"));
  await mkdir(join(directory, ".staging-half-made"));
  for (const [name, text] of [
    ["null", "null"],
    ["number", "7"],
    ["elsewhere", '{"pid":"self"}'],
  ] as const) {
    await mkdir(join(directory, `.staging-${name}`));
    await writeFile(join(directory, `.staging-${name}`, "owner.json"), text);
  }
  await mkdir(join(directory, ".staging-pipe"));
  execFileSync("mkfifo", [join(directory, ".staging-pipe", "owner.json")]);
  // A builder of the same pid that is not the one that wrote this: the start time differs.
  const child = spawn("sleep", ["60"]);
  t.after(() => child.kill());
  const owner = {
    pid: child.pid,
    start_time: "1",
    boot_id: (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim(),
  };
  await mkdir(join(directory, ".staging-other"));
  await writeFile(join(directory, ".staging-other", "owner.json"), JSON.stringify(owner));
  // A real builder that is killed.
  const script = `
    const { withStaging } = await import(${JSON.stringify(new URL("../../../src/environments/staging.ts", import.meta.url).href)});
    await withStaging(${JSON.stringify(directory)}, async (at) => { console.log(at); await new Promise((r) => setTimeout(r, 60000)); });
  `;
  const builder = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(builder.stdout, "data")) as [Buffer];
  const killed = line.toString().trim();

  await withStaging(directory, async (own) => {
    await removeStale(directory);
    assert.deepEqual(
      (await readdir(directory)).map((name) => join(directory, name)).sort(),
      [killed, own, join(directory, "images")].sort(),
    );
    builder.kill("SIGKILL");
    await once(builder, "exit");
    await removeStale(directory);
    assert.deepEqual(
      (await readdir(directory)).map((name) => join(directory, name)).sort(),
      [own, join(directory, "images")].sort(),
    );
  });
  assert.deepEqual(await readdir(directory), ["images"]);
});

test("staging of a builder that has ended and is not waited for is removed", async (t) => {
  const directory = await home(t);
  // The shell starts a program, says which, and becomes one that never asks for its end.
  const parent = spawn("sh", ["-c", "sleep 0.1 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => parent.kill("SIGKILL"));
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  const stat = async () => (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/.*\) /, "").split(" ");
  const owner = {
    pid,
    start_time: (await stat())[19],
    boot_id: (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim(),
  };
  await mkdir(join(directory, ".staging-other"));
  await writeFile(join(directory, ".staging-other", "owner.json"), JSON.stringify(owner));
  await removeStale(directory);
  assert.deepEqual(await readdir(directory), [".staging-other"]);
  const deadline = Date.now() + 10_000;
  while ((await stat())[0] !== "Z") {
    assert.ok(Date.now() < deadline, "the builder does not end");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await removeStale(directory);
  assert.deepEqual(await readdir(directory), []);
});
