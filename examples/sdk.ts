// An agent's loop: run the tests in a workspace, mend what fails, push it, run them again.
//
//   node examples/sdk.ts
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pyro } from "pyro-mcp";

const project = await mkdtemp(join(tmpdir(), "project-"));
try {
  await writeFile(join(project, "add.py"), "def add(a, b):\n    return a - b\n");
  await writeFile(
    join(project, "check.py"),
    "from add import add\nassert add(2, 3) == 5, add(2, 3)\nprint('passed')\n",
  );

  await using pyro = new Pyro();
  // An ephemeral workspace is deleted at the end of this block; others live until somebody deletes them.
  await using workspace = await pyro.createWorkspace({
    seedPath: project,
    labels: { example: "sdk" },
    ephemeral: true,
  });

  const before = await workspace.exec(["python3", "-B", "check.py"]);
  console.log(`before: exit status ${before.exitCode}, ${before.stderr.trim().split("\n").at(-1)}`);

  await writeFile(join(project, "add.py"), "def add(a, b):\n    return a + b\n");
  const pushed = await workspace.syncPush(project);
  console.log(`pushed ${pushed.entryCount} entries to ${pushed.destination}`);

  // Output can also be had as it comes.
  const check = workspace.exec("python3 -B check.py");
  for await (const { stream, data } of check) process[stream].write(data);
  console.log(`after: exit status ${(await check).exitCode}`);

  // What is kept between calls, a REPL for example, is in a shell.
  await using shell = await workspace.shell.open();
  const untilPrompt = async (cursor: string) => {
    for (;;) {
      const { output } = await shell.read({ cursor, plain: true, waitForIdleMs: 300 });
      if (output.endsWith("\n>>> ")) return output;
    }
  };
  await untilPrompt((await shell.write("python3 -i")).cursor);
  const shown = await untilPrompt((await shell.write("import add; add.add(20, 22)")).cursor);
  console.log(`in a REPL: ${shown.split("\n").at(-2)}`);

  const { entries } = await workspace.logs();
  for (const { sequence, command, exitCode } of entries) console.log(`${sequence}. ${command.join(" ")}: ${exitCode}`);

  const { commands, changes } = await workspace.summary();
  console.log(`${commands.failed} of ${commands.total} commands failed; ${changes?.modified} file was modified`);
} finally {
  await rm(project, { recursive: true });
}
