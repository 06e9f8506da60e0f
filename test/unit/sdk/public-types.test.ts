// The declarations that are published: they need no package, and say what the types in the source say.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { emitTypes } from "../../../scripts/public-types.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const TSC = join(ROOT, "node_modules", ".bin", "tsc");

function tsc(...args: string[]): string {
  const { status, stdout, error } = spawnSync(TSC, args, { cwd: ROOT, encoding: "utf8" });
  if (error) throw error;
  return status === 0 ? "" : `${status}: ${stdout}`;
}

test("what is written out for each row is what derives from the table, and types a caller's program alone", async () => {
  // Below the root, so that Node's own types are found.
  await mkdir(join(ROOT, "dist"), { recursive: true });
  const directory = await mkdtemp(join(ROOT, "dist", "types-test-"));
  try {
    const types = join(directory, "types");
    await emitTypes(types);
    await writeFile(
      join(directory, "same.ts"),
      `import type * as derived from ${JSON.stringify(join(ROOT, "src", "sdk", "types.ts"))};
      import type { Events, Inputs, Outputs } from "./types/sdk/rows.d.ts";
      type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
      type Wrong =
        | { [N in keyof Inputs]: Same<Inputs[N], derived.SdkInput<N>> extends true ? never : N }[keyof Inputs]
        | { [N in keyof Outputs]: Same<Outputs[N], derived.SdkOutput<N>> extends true ? never : N }[keyof Outputs]
        | { [N in keyof Events]: Same<Events[N], derived.SdkEvent<N>> extends true ? never : N }[keyof Events];
      export const none: [Wrong] extends [never] ? true : Wrong = true;
      // The comparison itself finds a difference.
      export const differs: Same<Outputs["run"], Outputs["workspace.exec"]> = false;`,
    );
    await writeFile(
      join(directory, "caller.ts"),
      `import { type ErrorCode, Pyro, PyroError, type WorkspaceRecord } from "./types/sdk/index.js";
      export async function main(): Promise<ErrorCode | WorkspaceRecord["state"]> {
        await using pyro = new Pyro();
        await using ws = await pyro.createWorkspace({ ephemeral: true, memMib: 512, labels: { a: "b" } });
        const run = ws.exec(["make"], { check: true });
        for await (const { data } of run) data.byteLength.toFixed();
        const { exitCode, lostReason } = await run;
        for await (const entry of ws.logs({ follow: true })) entry.stdout.trim();
        for await (const { workspaceId } of pyro.listWorkspaces()) workspaceId.trim();
        // @ts-expect-error there is no such field
        await ws.update({ nam: "x" });
        // @ts-expect-error there is no such signal
        run.signal("NOPE");
        const failed: unknown = [exitCode, lostReason];
        return failed instanceof PyroError ? failed.code : (await ws.status()).state;
      }`,
    );
    const options = ["--noEmit", "--strict", "--skipLibCheck", "false", "--allowImportingTsExtensions"];
    const target = ["--module", "nodenext", "--target", "esnext", "--types", "node", "--exactOptionalPropertyTypes"];
    const files = ["same.ts", "caller.ts"].map((name) => join(directory, name));
    assert.equal(tsc("--ignoreConfig", ...options, ...target, ...files), "");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
