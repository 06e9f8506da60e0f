// References to secrets become values, and what is no reference is refused without being repeated.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readReferences, withSecretFiles } from "../../../src/client/secrets.ts";
import type { PyroError } from "../../../src/errors/error.ts";

let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-references-"));
  await writeFile(join(directory, "key"), "file-value\n");
  await writeFile(join(directory, "large"), Buffer.alloc(65_537, "x"));
  await writeFile(join(directory, "short"), "12345\n\n");
});

after(() => rm(directory, { recursive: true }));

const sources = () => ({
  environment: { TOKEN: "variable-value", EMPTY: "" },
  cwd: directory,
  stdin: async () => Buffer.from([0xff, 1, 2, 3, 4, 5, 0]),
});

const decoded = ({ value = "" }: { value?: string | undefined }) => Buffer.from(value, "base64");

test("variables, files and stdin", async () => {
  const sent = await readReferences(["TOKEN", "AS=env:TOKEN", "KEY=file:key", "IN=-"], sources());
  assert.deepEqual(
    sent.map(({ name, source }) => [name, source]),
    [
      ["TOKEN", "env:TOKEN"],
      ["AS", "env:TOKEN"],
      ["KEY", `file:${join(directory, "key")}`],
      ["IN", "stdin"],
    ],
  );
  assert.deepEqual(sent.slice(0, 3).map(decoded).map(String), ["variable-value", "variable-value", "file-value\n"]);
  assert.deepEqual(sent[3] && decoded(sent[3]), Buffer.from([0xff, 1, 2, 3, 4, 5, 0]));
});

test("each refusal has its code, and repeats nothing that may be a value", async () => {
  const cases: [string[], string][] = [
    [["TOKEN=hunter2hunter2"], "SECRET_LITERAL"],
    [["TOKEN=env:hunter2-hunter2"], "SECRET_LITERAL"],
    [["TOKEN="], "SECRET_LITERAL"],
    [["TOKEN=file:"], "SECRET_LITERAL"],
    [["=hunter2"], "SECRET_LITERAL"],
    [["hunter2=hunter2 x"], "SECRET_LITERAL"],
    [["hunter2-hunter2"], "SECRET_INVALID"],
    [["9lives"], "SECRET_INVALID"],
    [[`X${"x".repeat(64)}`], "SECRET_INVALID"],
    [["TOKEN", "TOKEN=-"], "SECRET_INVALID"],
    [["A=-", "B=-"], "SECRET_INVALID"],
    [["A=file:large"], "SECRET_INVALID"],
    [["A=file:short"], "SECRET_INVALID"],
    [["EMPTY"], "SECRET_INVALID"],
    [["MISSING"], "SECRET_UNREADABLE"],
    [["A=file:missing"], "SECRET_UNREADABLE"],
    [["A=file:."], "SECRET_UNREADABLE"],
  ];
  for (const [words, code] of cases) {
    const error = await readReferences(words, sources()).then(
      () => assert.fail(`${words} were taken`),
      (thrown: PyroError) => thrown,
    );
    assert.equal(error.code, code, words.join(" "));
    const told = JSON.stringify(error.toData());
    assert.doesNotMatch(told, /hunter2.hunter2|12345|xxxxxxx/, told);
  }
  const { stdin: _, ...without } = sources();
  await assert.rejects(readReferences(["A=-"], without), { code: "SECRET_UNREADABLE" });
});

test("the SDK's are values, or files that are read for them", () => {
  const input = {
    secrets: [
      { name: "A", value: "value-of-a" },
      { name: "B", file: "key" },
    ],
    other: 1,
  };
  const sent = withSecretFiles(input, directory);
  assert.deepEqual(
    sent.secrets.map((secret) => [secret.name, decoded(secret as { value?: string }).toString(), "file" in secret]),
    [
      ["A", "value-of-a", false],
      ["B", "file-value\n", false],
    ],
  );
  assert.equal(sent.other, 1);
  assert.deepEqual(withSecretFiles({ other: 1 }, directory), { other: 1 });
  for (const wrong of [
    { name: "A" },
    { name: "A", value: "value-of-a", file: "key" },
    { name: "A B", value: "value-of-a" },
  ]) {
    assert.throws(() => withSecretFiles({ secrets: [wrong] }, directory), { code: "SECRET_INVALID" });
  }
});
