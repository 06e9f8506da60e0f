// Every command of pyro that the pages show is one: it is parsed as the command line would, and its input is what the row takes.
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import { SESSION } from "../../../scripts/picture.ts";
import type { Asked } from "../../../src/cli/from-operation.ts";
import { type Actions, buildProgram, commandNamed, rowNamed } from "../../../src/cli/program.ts";
import { OPERATIONS } from "../../../src/operations/table.ts";
import { argumentsOf, commandLines, commandsOf } from "./shell-lines.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const PAGES = ["README.md", "CONTRIBUTING.md", ...globSync("docs/**/*.md", { cwd: ROOT })];
const GLOBAL = ["--help", "-h", "--json", "--quiet", "--verbose", "--version", "-V"];

test("commands in blocks are parsed, and their values are what they may be", async () => {
  let checked = 0;
  for (const page of PAGES) {
    for (const line of commandLines(readFileSync(join(ROOT, page), "utf8"))) {
      // How a command is used, in the reference.
      if (line.includes("[options]")) continue;
      for (const words of commandsOf(line)) {
        const given = argumentsOf("pyro", words);
        if (given === undefined) continue;
        checked++;
        await assert.doesNotReject(parsed(given), `${page} has: ${line}`);
      }
    }
  }
  assert.ok(checked > 150, `${checked} commands found`);
});

test("so is every command of the recorded session", async () => {
  for (const line of SESSION) {
    const [given] = commandsOf(line).flatMap((words) => [argumentsOf("pyro", words) ?? []]);
    await parsed(given ?? []);
  }
});

test("commands and flags that the text names are there", () => {
  const { program } = build(undefined);
  for (const page of PAGES) {
    const text = readFileSync(join(ROOT, page), "utf8").replace(/^```.*?^```$/gms, "");
    for (const [, span = ""] of text.matchAll(/`pyro ([^`]+)`/g)) {
      const words = (span.split(" -- ")[0] ?? "").split(/\s+/).filter((word) => word !== "help");
      const names = words.slice(0, words.findIndex((word) => !/^[a-z][a-z-]*$/.test(word)) >>> 0);
      const { command, surplus } = commandNamed(program, names);
      const known = surplus === undefined || command.commands.length === 0;
      assert.ok(known, `${page} names \`pyro ${span}\`: there is no ${surplus}`);
      if (command.commands.length > 0) continue;
      for (const flag of words.flatMap((word) => /^--[a-z][a-z-]*/.exec(word) ?? [])) {
        const has = GLOBAL.includes(flag) || command.options.some(({ long }) => long === flag);
        assert.ok(has, `${page} names \`pyro ${span}\`: ${command.name()} has no ${flag}`);
      }
    }
  }
});

test("a command that is none is found", async () => {
  const [words = []] = commandsOf("pyro workspace exec --timeout 5 fix -- true");
  await assert.rejects(parsed(argumentsOf("pyro", words) ?? []), /unknown option '--timeout'/);
  await assert.rejects(parsed(["workspace", "exec", "fix"]), /no command after --/);
  await assert.rejects(parsed(["run", "--mem-mib", "1", "--", "true"]), /mem_mib/);
  await assert.rejects(parsed(["workspace", "undelete", "fix"]), /undelete/);
});

test("a line is taken apart as a shell does it", () => {
  assert.deepEqual(commandsOf("vi a && PYRO_LOG=debug pyro run -- sh -c 'a | b' <in >out   # why"), [
    ["vi", "a"],
    ["PYRO_LOG=debug", "pyro", "run", "--", "sh", "-c", "a | b"],
  ]);
  assert.deepEqual(commandsOf('eval "$(pyro completion bash)"').at(-1), ["pyro", "completion", "bash"]);
  assert.deepEqual(argumentsOf("pyro", ["npx", "pyro", "doctor"]), ["doctor"]);
  assert.equal(argumentsOf("pyro", ["echo", "pyro"]), undefined);
});

function build(rest: readonly string[] | undefined): { program: Command; asked: Asked[] } {
  const asked: Asked[] = [];
  const nothing = () => Promise.resolve();
  const actions: Actions = {
    operation: async (operation) => void asked.push(operation),
    daemonStatus: nothing,
    daemonStop: nothing,
    completion: nothing,
    mcpServe: nothing,
    mcpConfig: nothing,
  };
  return { program: buildProgram({ rest }, actions), asked };
}

/** Rejects with what is wrong with a command line. */
async function parsed(given: readonly string[]): Promise<void> {
  const at = given.indexOf("--");
  const words = at < 0 ? given : given.slice(0, at);
  const rest = at < 0 ? undefined : given.slice(at + 1);
  const { program, asked } = build(rest);
  if (words[0] === "help" || words.some((word) => GLOBAL.slice(0, 2).includes(word) || /^(--version|-V)$/.test(word))) {
    const { surplus, command } = commandNamed(program, words[0] === "help" ? words.slice(1) : words);
    assert.ok(surplus === undefined, `${command.name()} has no ${surplus}`);
    return;
  }
  quiet(program);
  const takesCommand = rowNamed(words)?.shape.rest !== undefined;
  assert.ok(!takesCommand || (rest?.length ?? 0) > 0, "no command after --");
  await program.parseAsync(takesCommand || rest === undefined ? [...words] : [...words, "--", ...rest], {
    from: "user",
  });
  for (const { name, input } of asked) {
    // What the client adds, such as a file's content, is not there yet; secrets are words of which it makes values.
    const { error } = OPERATIONS[name].input.safeParse(input);
    const wrong = error?.issues.filter(({ path }) => path[0] !== "secrets" && String(path[0]) in input) ?? [];
    assert.deepEqual(wrong, [], `${name}: ${wrong.map(({ path }) => path.join(".")).join(", ")}`);
  }
}

/** Errors are thrown, and nothing is printed. */
function quiet(command: Command): void {
  command.exitOverride().configureOutput({ writeOut: () => {}, writeErr: () => {} });
  for (const child of command.commands) quiet(child);
}
