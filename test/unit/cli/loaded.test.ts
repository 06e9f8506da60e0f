// What a command line loads of the bundle: schemas take tens of milliseconds to load, and neither help nor a TAB needs
// one. V8's coverage says which files ran.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = join(import.meta.dirname, "..", "..", "..");

/** The dependencies in what these words load. The bundle names each file that a part of it comes from. */
async function loaded(words: readonly string[], status: number): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-loaded-"));
  try {
    const env = { ...process.env, PYRO_HOME: join(directory, "none"), NODE_V8_COVERAGE: join(directory, "coverage") };
    const ran = spawnSync(process.execPath, [join(ROOT, "bin", "pyro.js"), ...words], { env, encoding: "utf8" });
    assert.equal(ran.status, status, `${words.join(" ")}: ${ran.stderr}`);
    const found = new Set<string>();
    for (const name of await readdir(join(directory, "coverage"))) {
      const report = JSON.parse(await readFile(join(directory, "coverage", name), "utf8")) as {
        result: { url: string }[];
      };
      const files = report.result.map(({ url }) => url).filter((url) => url.includes("/dist/"));
      assert.ok(files.length > 0, "nothing of the bundle ran");
      for (const file of files) {
        const text = await readFile(fileURLToPath(file), "utf8");
        for (const [, dependency = ""] of text.matchAll(/^\/\/ node_modules\/((?:@[^/]+\/)?[^/]+)\//gm))
          found.add(dependency);
      }
    }
    return [...found].sort();
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("help and completion load the parser and nothing else; the version not even that", async () => {
  assert.deepEqual(await loaded(["--version"], 0), []);
  for (const words of [["--help"], ["run", "--help"], ["help", "env", "pull"], ["completion", "bash"]]) {
    assert.deepEqual(await loaded(words, 0), ["commander"], words.join(" "));
  }
  assert.deepEqual(await loaded(["__complete", "--", "run", "--mem"], 0), ["commander"]);
  assert.deepEqual(await loaded(["daemon", "status"], 0), ["commander"]);
});

test("what needs a schema loads it, so it would be seen", async () => {
  const wrong = ["run", "--mem-mib", "3", "--", "true"];
  assert.deepEqual(await loaded(wrong, 125), ["commander", "zod"]);
});
