// A change that is tried without fear: a snapshot before it, back to that when it breaks things, and two ways tried side by
// side from one point.
//
//   node examples/snapshots.ts
import { Pyro, type Workspace } from "pyro-mcp";

async function count(workspace: Workspace): Promise<string> {
  const { exitCode, stdout } = await workspace.exec("wc -l <list.txt");
  return exitCode === 0 ? `${stdout.trim()} lines` : "broken";
}

await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({ labels: { example: "snapshots" }, ephemeral: true });
await workspace.exec("seq 100 >list.txt", { check: true });

const { snapshotName, kind } = await workspace.snapshot.create("good");
console.log(`${snapshotName} is a ${kind} snapshot`);

// Whatever happens to the whole disk, the snapshot has it as it was: /usr too.
await workspace.exec("rm -rf /usr/bin list.txt");
console.log(`after the accident: ${await count(workspace)}`);
const { resetCount } = await workspace.reset("good");
console.log(`after reset number ${resetCount}: ${await count(workspace)}`);

// Another begins where this one stands now; neither sees what the other does.
await workspace.exec("seq 50 >>list.txt", { check: true });
await using other = await workspace.clone({ ephemeral: true });
await other.exec("sort -un list.txt -o list.txt", { check: true });
console.log(`here: ${await count(workspace)}, in the clone: ${await count(other)}`);

// Stopped it takes no memory; what is on its disk is there when it is started again.
console.log(`it is ${(await workspace.stop()).state}`);
await workspace.start();
console.log(`started again: ${await count(workspace)}`);

for await (const { snapshotName: name, kind: what } of workspace.snapshot.list()) console.log(`${name} (${what})`);
await workspace.snapshot.delete("good");
await workspace.reset();
console.log(`as it was created: ${await count(workspace)}`);
