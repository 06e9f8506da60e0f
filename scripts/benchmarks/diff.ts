// What it costs to see what was changed in a workspace: a tree of many files, of which a few are others.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pyro } from "pyro-mcp";
import { stop } from "./commands.ts";
import { type Row, sample } from "./samples.ts";

const FILES = 10_000;
const CHANGES = 10;
const EACH_DIRECTORY = 100;

export async function diffs(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  const seed = await mkdtemp(join(tmpdir(), "pyro-bench-"));
  try {
    for (let index = 0; index < FILES; index++) {
      const directory = join(seed, `d${Math.floor(index / EACH_DIRECTORY)}`);
      if (index % EACH_DIRECTORY === 0) await mkdir(directory);
      await writeFile(join(directory, `f${index}`), `file ${index}\n`);
    }
    await using workspace = await pyro.createWorkspace({ seedPath: seed, ephemeral: true });
    for (let index = 0; index < CHANGES; index++) {
      await workspace.file.write(`d${index}/f${index * EACH_DIRECTORY}`, "another\n");
    }
    const samples = await sample(count, async () => {
      const { summary } = await workspace.diff();
      if (summary.total !== CHANGES) throw new Error(`${summary.total} changes were found`);
      return undefined;
    });
    const name = `\`workspace diff\` of ${FILES} files, ${CHANGES} changed`;
    return [{ name, command: "workspace.diff()", unit: "ms", samples, target: 1200 }];
  } finally {
    await rm(seed, { recursive: true, force: true });
    await stop();
  }
}
