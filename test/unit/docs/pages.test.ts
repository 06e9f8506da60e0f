// The written pages: every error code has its entry, what they link to and name is there.
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { CODES } from "../../../src/errors/codes.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...globSync("docs/**/*.md", { cwd: ROOT })];

test("docs/troubleshooting.md has an entry for every error code, with words in it", () => {
  const page = read("docs/troubleshooting.md");
  for (const code of Object.keys(CODES)) {
    const [, entry = ""] = page.split(`\n### ${code}\n`);
    const words = (entry.split("\n#")[0] ?? "").trim();
    assert.ok(words.length > 40, `${code} has no entry, or an empty one`);
  }
});

test("links between pages lead to pages and headings that are there", () => {
  for (const page of PAGES) {
    for (const [, target = ""] of read(page).matchAll(/\]\(([^)]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file = "", heading] = target.split("#");
      const path = file === "" ? page : join(dirname(page), file);
      assert.ok(existsSync(join(ROOT, path)), `${page} links to ${target}`);
      if (heading !== undefined) assert.ok(headingsOf(path).includes(heading), `${page} links to ${target}`);
    }
  }
});

test("the index has every page", () => {
  const index = read("docs/README.md");
  for (const page of globSync("docs/**/*.md", { cwd: ROOT, exclude: ["docs/README.md"] })) {
    assert.ok(index.includes(`](${page.replace(/^docs\//, "")})`), `docs/README.md does not link to ${page}`);
  }
});

test("files of the tree that pages name are there", () => {
  for (const page of PAGES) {
    for (const [, path = ""] of read(page).matchAll(/`((?:src|go|test|scripts|docs|proto|bin)\/[\w./-]+)`/g)) {
      const built = /^(src|go)\/gen\b/.test(path);
      assert.ok(built || existsSync(join(ROOT, path)), `${page} names ${path}`);
    }
  }
});

function read(page: string): string {
  return readFileSync(join(ROOT, page), "utf8");
}

/** As they stand in links: in lower case, without punctuation, spaces as hyphens. */
function headingsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, text = ""]) =>
    text
      .toLowerCase()
      .replace(/[^\w\s-]/g, "")
      .replace(/\s+/g, "-"),
  );
}
