// Damaged files below a home: the cache, the records of runs, an environment's image. What can be made again is, what
// cannot is a code with a way out, and nothing hangs on what is no file at all.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, open, readdir, readFile, rename, rm, symlink, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { RUN_SCHEMA_VERSION } from "../../src/engine/run.ts";
import { codeOf, inNamespace, nothingRuns, refused, worksAgain } from "./faulty.ts";
import { type OwnHome, ownHome, pyro, sharedHome, untilGone } from "./harness.ts";

/** Replaces what a home shares with the others by a copy of its own. */
async function own(home: OwnHome, name: "cache" | "environments"): Promise<void> {
  await unlink(join(home.path, name));
  // By cp: templates are sparse.
  execFileSync("cp", ["-r", "--sparse=always", join(sharedHome(), name), join(home.path, name)]);
}

async function stopDaemon(home: OwnHome): Promise<void> {
  await pyro(["daemon", "stop"], { env: home.env });
}

test("a damaged cache", { timeout: 400_000 }, async (context) => {
  await using home = await ownHome({ templates: true });
  await own(home, "cache");
  const { templates, cache, probes } = home.paths;
  await context.test("unreadable records, memory cut short, garbage beside them", async () => {
    for (const name of await readdir(templates)) {
      await writeFile(join(templates, name, "template.json"), "{ not json");
      await truncate(join(templates, name, "memory"), 4096);
    }
    await mkdir(join(templates, ".staging-0123"), { recursive: true });
    await writeFile(join(templates, "garbage"), "x");
    await symlink("nowhere", join(templates, "dangling"));
    await worksAgain(home);
    assert.equal(existsSync(join(templates, ".staging-0123")), false, "what was half-made is left");
  });
  await context.test("a template that is no directory", async () => {
    const keys = (await readdir(templates)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    for (const key of keys) {
      await rm(join(templates, key), { recursive: true });
      await writeFile(join(templates, key), "x");
    }
    await worksAgain(home);
  });
  await context.test("a file in the place of all of it", async () => {
    await stopDaemon(home);
    await rename(cache, `${cache}.aside`);
    await writeFile(cache, "x");
    const { code, message } = await refused(home);
    assert.match(code, /^(HOST_IO_FAILED|DAEMON_START_FAILED)$/, message);
    await rm(cache);
    await rename(`${cache}.aside`, cache);
    await worksAgain(home);
  });
  await context.test("answers of probes that nobody can read", async (part) => {
    const names = await readdir(probes).catch(() => []);
    if (names.length === 0) return part.skip("there is no KVM to probe on this host");
    await stopDaemon(home);
    for (const name of names) await writeFile(join(probes, name), "\u0000garbage");
    await worksAgain(home);
    const verdicts = await Promise.all(names.map((name) => readFile(join(probes, name), "utf8")));
    assert.ok(
      verdicts.some((text) => text.includes('"works"')),
      "the probe was not made again",
    );
  });
  await nothingRuns(home);
});

test("garbage among the records of runs", { timeout: 200_000 }, async () => {
  await using home = await ownHome({ templates: true });
  await worksAgain(home);
  await stopDaemon(home);
  const { runs } = home.paths;
  const record = async (name: string, text: string) => {
    await mkdir(join(runs, name));
    await writeFile(join(runs, name, "run.json"), text);
  };
  await record("vm_notjson", "{");
  await record("vm_null", "null");
  await record("vm_number", "7");
  await record("vm_other", JSON.stringify({ schema_version: RUN_SCHEMA_VERSION, vm_id: "vm_another", stage: "ready" }));
  await record("vm_future", JSON.stringify({ schema_version: 99, vm_id: "vm_future", stage: "ready" }));
  await record(
    "vm_halfway",
    JSON.stringify({ schema_version: RUN_SCHEMA_VERSION, vm_id: "vm_halfway", stage: "ready" }),
  );
  await record(
    "vm_exited",
    JSON.stringify({ schema_version: RUN_SCHEMA_VERSION, vm_id: "vm_exited", stage: "exited", end: 3 }),
  );
  await mkdir(join(runs, "vm_empty"));
  await mkdir(join(runs, "vm_directory", "run.json"), { recursive: true });
  await mkdir(join(runs, "vm_pipe"));
  execFileSync("mkfifo", [join(runs, "vm_pipe", "run.json")]);
  await writeFile(join(runs, "file"), "x");
  await symlink("/", join(runs, "vm_link"));
  await worksAgain(home);
  const { status, stdout } = await pyro(["daemon", "status", "--json"], { env: home.env });
  assert.equal(status, 0, stdout.toString());
  // None of them can be read as a run by anyone.
  await untilGone(() => readdir(runs));
});

test("a damaged environment", { timeout: 300_000 }, async (context) => {
  if (process.getuid?.() !== 0) return context.skip("replacing a system program takes root");
  await using home = await ownHome({ templates: true });
  await own(home, "environments");
  const images = join(home.path, "environments", "images");
  const [digest = ""] = (await readdir(images)).filter((name) => /^[0-9a-f]{64}$/.test(name));
  const image = join(images, digest, "image.squashfs");
  await context.test("its file system is not one any more", async () => {
    const file = await open(image, "r+").catch(async () => {
      execFileSync("chmod", ["u+w", image]);
      return await open(image, "r+");
    });
    const head = Buffer.alloc(4096);
    await file.read(head, 0, head.length, 0);
    await file.write(Buffer.alloc(4096, 0xff), 0, 4096, 0);
    const { code, message } = await refused(home);
    assert.equal(code, "MICROVM_START_FAILED", message);
    assert.match(message, /base disk/);
    await file.write(head, 0, head.length, 0);
    await file.close();
    await worksAgain(home);
  });
  await context.test("and it cannot be built again", async () => {
    const manifest = join(images, digest, "manifest.json");
    await cp(manifest, `${manifest}.aside`);
    await writeFile(manifest, "garbage");
    const script =
      'mount --bind /bin/false "$(command -v mmdebstrap)"; pyro run --json -- true || true; pyro daemon stop >/dev/null';
    await stopDaemon(home);
    const { stdout, stderr } = await inNamespace(home, script);
    assert.equal(codeOf(stdout), "ENVIRONMENT_BUILD_FAILED", `${stdout}${stderr}`);
    await rename(`${manifest}.aside`, manifest);
    await worksAgain(home);
  });
  await nothingRuns(home);
});
