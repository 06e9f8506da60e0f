// Programs that want a real terminal, driven through separate calls as an agent does it: text in, keys in, the screen out.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Shell } from "pyro-mcp";
import { unpackedPackage } from "../debian-package.ts";
import { Faces } from "./shell-faces.ts";

let faces: Faces;

before(async () => {
  faces = await Faces.open();
});

after(() => faces[Symbol.asyncDispose]());

const open = () => faces.sdk.workspace("shells").shell.open({ cols: 80, rows: 12 });

/** The rows of the screen, when they show this. */
async function shown(shell: Shell, wanted: RegExp): Promise<string> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const { output } = await shell.read({ screen: true });
    if (wanted.test(output)) return output;
    assert.ok(Date.now() < deadline, `no ${wanted} on:\n${output}`);
    await sleep(100);
  }
}

test("top redraws its screen, takes a key and gives the screen back", { timeout: 120_000 }, async () => {
  await using shell = await open();
  await shell.write("echo before; top -d 1");
  const first = await shown(shell, /load average[\s\S]*PID USER/);
  assert.doesNotMatch(first, /before/, "it has the whole screen");
  await shell.write({ input: "V", noNewline: true });
  await shown(shell, /PID USER[\s\S]*`- /);
  await shell.write({ input: "q", noNewline: true });
  // What is typed before it has ended goes with it.
  await shown(shell, /#\s*$/);
  await shell.write("echo left-$?");
  await shown(shell, /^left-0/m);
});

test("less pages, finds and leaves what was there before", { timeout: 120_000 }, async () => {
  const unpacked = await unpackedPackage("less");
  await faces.workspace.push(join(unpacked, "usr", "bin", "less"), ["--dest", "tools"]);
  await using shell = await open();
  await shell.write("echo before; seq 1000 | tools/less");
  await shown(shell, /^1\n2\n[\s\S]*\n11\n:/);
  await shell.write({ keys: "Space" });
  await shown(shell, /^12\n/);
  await shell.write("/^777$");
  await shown(shell, /^777\n/);
  await shell.write({ input: "G", noNewline: true });
  await shown(shell, /\n1000\n\(END\)/);
  await shell.write({ input: "q", noNewline: true });
  await shown(shell, /before[\s\S]*#/);
});

test("git add -p asks hunk by hunk", { timeout: 120_000 }, async () => {
  await faces.workspace.sh(
    "git init -q r && cd r && seq 40 > f && git add f && git -c user.name=a -c user.email=a@b.c commit -qm one && sed -i '2s/$/ two/;38s/$/ last/' f",
  );
  await using shell = await open();
  await shell.write("cd r && git add -p");
  await shown(shell, /2 two[\s\S]*\(1\/2\) Stage this hunk \[[^\]]*\]\?/);
  await shell.write("n");
  await shown(shell, /38 last[\s\S]*\(2\/2\) Stage this hunk/);
  await shell.write("y");
  await shown(shell, /hunk[\s\S]*r#/);
  assert.equal(await faces.workspace.sh("cd r; git diff --cached --numstat"), "1\t1\tf\n");
  assert.match(await faces.workspace.sh("cd r; git diff --cached"), /\+38 last/);
  assert.match(await faces.workspace.sh("cd r; git diff"), /\+2 two/);
});
