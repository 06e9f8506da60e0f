// What becomes of a pull whose program is stopped or ends by itself: a program of the test's stands for pyro-image, since
// the real one would need two hours, or a fault of its own. What it does with registries is in test/vm.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fetchImage } from "../../../src/environments/oci.ts";

const REFERENCE = "registry.example.com/x:y";

async function pull(t: TestContext, script: string, deadlineMs: number): Promise<unknown> {
  const directory = await mkdtemp(join(tmpdir(), "oci-"));
  t.after(() => rm(directory, { recursive: true }));
  const program = join(directory, "program");
  const staging = join(directory, "staging");
  await mkdir(staging);
  await writeFile(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const options = { program, staging, logPath: join(directory, "log"), onProgress: () => {}, deadlineMs };
  return await fetchImage(REFERENCE, options);
}

test("a pull that is not done in its time is the registry's fault, whatever the program says when it is stopped", async (t) => {
  const told = '{"type":"failed","kind":"host","message":"the image could not be stored: it was told to stop"}';
  await assert.rejects(pull(t, `trap 'echo ${JSON.stringify(told)}; exit 1' TERM; sleep 60 & wait`, 300), {
    code: "REGISTRY_UNREACHABLE",
    message: /was not fetched in 0 minutes/,
  });
});

test("a program that is refused memory says that the image is too large", async (t) => {
  const words = ["fatal error: runtime: out of memory", "runtime: cannot allocate memory"];
  for (const said of words) {
    await assert.rejects(pull(t, `echo "${said}" >&2; echo "goroutine 1 [running]:" >&2; exit 2`, 10_000), {
      code: "LIMIT_EXCEEDED",
    });
  }
});

test("a program that says why it failed is believed", async (t) => {
  await assert.rejects(pull(t, `echo '{"type":"failed","kind":"damaged","message":"it is odd"}'; exit 1`, 10_000), {
    code: "ENVIRONMENT_DAMAGED",
    message: `${REFERENCE}: it is odd.`,
  });
});
