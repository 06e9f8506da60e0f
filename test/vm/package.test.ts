// The package from its tarball to its last trace, as an ordinary user: installed in an empty directory with npm alone and the
// oldest Node it takes, the README's first session typed as it stands there, uninstalled, nothing left.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFile, cp, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { pathsFor } from "../../src/engine/paths.ts";
import { nodeOf, OLDEST_NODE, packed } from "../packed.ts";
import { Account, AS_ROOT } from "./account.ts";
import { type Finished, runOk, sharedHome, untilGone } from "./harness.ts";

const exec = promisify(execFile);

test("installed from its tarball, used and uninstalled by an ordinary user", { timeout: 300_000 }, async (context) => {
  await using made = await packed();
  const node = await nodeOf(OLDEST_NODE);
  let scratch = "";
  await using user = await Account.create(async (directory) => {
    scratch = directory;
    await copyFile(made.tarball, join(directory, "pyro-mcp.tgz"));
    await cp(node, join(directory, "node"), { recursive: true });
    // A newer one for the examples, which are in TypeScript.
    await copyFile(process.execPath, join(directory, "node", "bin", "node-24"));
    await exec("chmod", ["-R", "u=rwX,go=rX", join(directory, "node"), join(directory, "pyro-mcp.tgz")]);
    const installed = join(directory, "home", "agent", "node_modules", "pyro-mcp");
    return { pyro: [join(directory, "node", "bin", "node"), join(installed, "bin", "pyro.js")] };
  });
  const project = join(user.home, "agent");
  await shareBoots(user);

  /** Types lines into a shell of the user's; in its PATH are the system's packages and that Node, and no Go of its own. */
  const type = async (directory: string, script: string): Promise<Finished> => {
    const path = [join(scratch, "node", "bin"), join(project, "node_modules", ".bin"), "/usr/bin", "/bin"].join(":");
    // npm would ask the registry whether it is itself up to date, and keep compiled code in /tmp for good.
    const npm = ["npm_config_offline=true", `TMPDIR=${user.home}`];
    const settings = [`PATH=${path}`, ...npm, "PYRO_POOL_SIZE=0"];
    const shell = ["env", ["-C", directory, ...settings, "sh", "-ec", script]] as const;
    return await user.startProgram(...shell).finished;
  };
  const typed = async (directory: string, script: string): Promise<string> => {
    const { status, stdout, stderr } = await type(directory, script);
    assert.equal(status, 0, `${script}: status ${status}\n${stdout}${stderr}`);
    return stdout.toString();
  };

  await context.test("npm alone installs it", async () => {
    await mkdir(project);
    if (AS_ROOT) await exec("chown", [user.name, project]);
    await typed(project, `npm install --no-audit --no-fund ${join(scratch, "pyro-mcp.tgz")}`);
    assert.deepEqual(await readdir(join(project, "node_modules", ".bin")), ["pyro"]);
    assert.equal(await typed(project, "node --version"), `v${OLDEST_NODE}\n`);
  });

  await context.test("the doctor finds everything, and npx runs a command", async () => {
    const report = await typed(project, "npx pyro doctor");
    assert.match(report, /^ok +daemon .* from .*\/agent\/node_modules\/pyro-mcp, /m);
    assert.match(report, /pyro can start microVMs here\.\n$/);
    assert.match(await typed(project, "npx pyro run debian:12 -- git --version"), /^git version 2\./);
  });

  await context.test("the README's first session does what it says", async () => {
    const repository = join(user.home, "some", "repository");
    await typed(user.home, `mkdir -p ${repository}; cd ${repository}; git init -q; echo hello >README.md; git add .`);
    const lines = sessionOf(await readFile(join(project, "node_modules", "pyro-mcp", "README.md"), "utf8"));
    assert.ok(lines.length > 8, lines.join("\n"));
    // What a person does at a screen, done without one.
    const editor = "vi() { echo more >>$1; }";
    const printed = await typed(user.home, [editor, "set -x", ...lines].join("\n"));
    assert.match(printed, /^42$/m);
    assert.equal(await readFile(join(repository, "a.py"), "utf8"), "print(9 * 7)\n");
    assert.equal(await typed(project, "pyro workspace list --json | grep -c workspace_id || true"), "0\n");
  });

  await context.test("an example runs when it is copied out", async () => {
    const readme = await readFile(join(project, "node_modules", "pyro-mcp", "README.md"), "utf8");
    const [copy = "", run = ""] = blockOf(readme, "The examples");
    assert.match(await typed(project, `${copy}\n${run.replace(/^node /, "node-24 ")}`), /^after: exit status 0$/m);
  });

  await context.test("stopped and uninstalled it leaves nothing running", async () => {
    const uninstall = blockOf(
      await readFile(join(project, "node_modules", "pyro-mcp", "README.md"), "utf8"),
      "Uninstall",
    );
    await typed(project, "pyro workspace create --name left-behind --id-only");
    await typed(project, uninstall.join("\n"));
    await untilGone(() => user.processes());
    const left = await readdir(join(project, "node_modules"), { recursive: true });
    assert.deepEqual(left.sort(), [".bin", ".package-lock.json"]);
    for (const place of [user.paths.state, user.paths.cache]) await assert.rejects(stat(place), { code: "ENOENT" });
  });
});

/** The lines of the README's first session, without that which needs a terminal and that which was tried above. */
function sessionOf(readme: string): string[] {
  return blockOf(readme, "A first session").filter((line) => !/\bshell attach\b|\bdoctor\b/.test(line));
}

/** The commands of the first block below a heading. */
function blockOf(readme: string, heading: string): string[] {
  const [, section = ""] = readme.split(new RegExp(`^##+ ${heading}$`, "m"));
  const [, block = ""] = /```console\n([\s\S]*?)```/.exec(section) ?? [];
  const lines = block.split("\n").filter((line) => line.startsWith("$ "));
  return lines.map((line) => line.slice(2));
}

/** Environments and templates of the tests' home as this user's own: what making them takes is ordinary-user.test.ts's. */
async function shareBoots(user: Account): Promise<void> {
  await runOk(["--", "true"]);
  const { environments, templates } = pathsFor({ PYRO_HOME: sharedHome() }, 0);
  await mkdir(user.paths.state, { recursive: true });
  await mkdir(user.paths.cache, { recursive: true });
  await exec("cp", ["-r", "--reflink=auto", environments, user.paths.environments]);
  await exec("cp", ["-r", "--reflink=auto", templates, user.paths.templates]);
  await rm(join(user.paths.environments, "logs"), { recursive: true, force: true });
  const made = [join(user.home, ".local"), join(user.home, ".cache")];
  if (AS_ROOT) await exec("chown", ["-R", `${user.name}:${user.name}`, ...made]);
}
