// The recorded session in the README is of the commands that its script has, and each of them came to its end.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";
import { drawing, linesOf } from "../../../scripts/picture/drawing.ts";
import { screenOf } from "../../../scripts/picture/screen.ts";
import { PICTURE, SESSION } from "../../../scripts/picture.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");

test("the picture shows the session of its script (npm run picture takes it anew)", () => {
  const lines = linesOf(readFileSync(PICTURE, "utf8"));
  const commands = lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2));
  assert.deepEqual(commands, SESSION);
  assert.ok(lines.includes("passed"), "the session ends well");
  assert.ok(!lines.some((line) => /^pyro: (?!next: )/.test(line)), "pyro had nothing to complain of");
  assert.ok(readFileSync(join(ROOT, "README.md"), "utf8").includes(`](${relative(ROOT, PICTURE)})`));
});

test("what a terminal shows is drawn: text, colours, and lines that were written over", async () => {
  const lines = await screenOf(
    Buffer.from("half\rwhole <a> & b\r\n\u001b[31mred\u001b[0m \u001b[2mpale\u001b[0m\r\n\r\n"),
  );
  assert.deepEqual(lines[1], [
    { text: "red", style: "bad" },
    { text: " ", style: "plain" },
    { text: "pale", style: "dim" },
  ]);
  const svg = drawing("A & B", lines);
  assert.deepEqual(linesOf(svg), ["whole <a> & b", "red pale"]);
  assert.match(svg, /<title>A &amp; B<\/title>/);
});
