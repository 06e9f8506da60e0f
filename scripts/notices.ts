// Writes dist/THIRD-PARTY-NOTICES.txt: the licences of all that is inside what pyro's package holds beside pyro itself. What
// that is comes from the bundle (scripts/build.ts) and from the Go programs, which name the modules they were linked from.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const dist = join(root, "dist");
/** Licences, and what some of them want to be passed on beside them. */
const LEGAL = /^(licen[cs]e|copying|notice|patents)(\.(md|txt))?$/i;
const LICENCE = /^(licen[cs]e|copying)/i;

interface Part {
  readonly name: string;
  readonly text: string;
}

/** Packages that come without the text of their licence: whose they are, and the text. */
const TEXTLESS: Readonly<Record<string, () => string[]>> = {
  "@bufbuild/protobuf": () => [
    "Copyright 2021-2026 Buf Technologies, Inc.",
    apacheText(),
    // What is Google's in it begins with its own licence.
    commentAbove(join(root, "node_modules/@bufbuild/protobuf/dist/esm/wire/varint.js")),
  ],
  "@connectrpc/connect": () => ["Copyright 2021-2026 The Connect Authors", apacheText()],
  "@xterm/addon-serialize": xterm,
  "@xterm/headless": xterm,
};

function xterm(): string[] {
  const holders = [
    "Copyright (c) 2017-2026, The xterm.js authors",
    "Copyright (c) 2014-2016, SourceLair Private Company",
    "Copyright (c) 2012-2013, Christopher Jeffrey",
  ];
  // pyro's own licence is the same.
  const text = readFileSync(join(root, "LICENSE"), "utf8");
  return [holders.join("\n"), text.slice(text.indexOf("Permission is hereby granted")).trim()];
}

function apacheText(): string {
  // The same authors' module of Go has it.
  return moduleDirectories(["connectrpc.com/connect"])
    .flatMap(([, directory]) => legalTexts(directory))
    .join("\n\n");
}

function commentAbove(file: string): string {
  const lines = readFileSync(file, "utf8").split("\n");
  const comment = lines.slice(
    0,
    lines.findIndex((line) => !line.startsWith("//")),
  );
  return comment.map((line) => line.replace(/^\/\/ ?/, "")).join("\n");
}

/** Empty when there is no licence among them. */
function legalTexts(directory: string): string[] {
  const files = readdirSync(directory).filter((file) => LEGAL.test(file));
  if (!files.some((file) => LICENCE.test(file))) return [];
  return files.sort().map((file) => readFileSync(join(directory, file), "utf8").trim().replaceAll("\r\n", "\n"));
}

/** Throws for what has no licence to show: it may not be packed. */
function part(name: string, texts: readonly string[]): Part {
  if (texts.length === 0) throw new Error(`${name} has no licence: name it in scripts/notices.ts, or do without it`);
  return { name, text: texts.join("\n\n") };
}

function npmPackages(): Part[] {
  const names = readFileSync(join(dist, "stamps", "bundled"), "utf8")
    .split("\n")
    .filter(Boolean);
  return names.map((name) => {
    const directory = join(root, "node_modules", name);
    const { version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as { version: string };
    return part(`${name} ${version}`, TEXTLESS[name]?.() ?? legalTexts(directory));
  });
}

function goModules(): Part[] {
  const programs = ["guest", "host"].flatMap((place) =>
    readdirSync(join(dist, place)).map((name) => join(dist, place, name)),
  );
  const facts = go("version", "-m", ...programs);
  const modules = new Map(
    [...facts.matchAll(/^\tdep\t(\S+)\t(\S+)/gm)].map(([, path = "", version]) => [path, version]),
  );
  const [toolchain = ""] = /go1\.\S+/.exec(facts) ?? [];
  const directories = moduleDirectories([...modules.keys()].sort());
  return [
    part(`Go's standard library ${toolchain}`, legalTexts(go("env", "GOROOT"))),
    ...directories.map(([path, directory]) => part(`${path} ${modules.get(path)}`, legalTexts(directory))),
  ];
}

/** Paths of modules with where each is. */
function moduleDirectories(paths: readonly string[]): (readonly [string, string])[] {
  const lines = go("list", "-m", "-f", "{{.Path}} {{.Dir}}", ...paths).split("\n");
  return lines.map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]);
}

function go(...args: string[]): string {
  return execFileSync("go", args, { cwd: root, encoding: "utf8" }).trim();
}

const byText = new Map<string, string[]>();
for (const { name, text } of [...npmPackages(), ...goModules()]) byText.set(text, [...(byText.get(text) ?? []), name]);
const sections = [...byText].map(([text, names]) => `${names.join("\n")}\n\n${text}`);
const head =
  "pyro is licensed as LICENSE says. Its package also holds parts of what follows, each under its own licence.";
writeFileSync(join(dist, "THIRD-PARTY-NOTICES.txt"), `${[head, ...sections].join(`\n\n${"-".repeat(80)}\n\n`)}\n`);
