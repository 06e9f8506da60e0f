// The public surface of the SDK as lines (see compare.ts), read out of the declarations that are published: what each entry
// exports, with the members of its classes and interfaces. Reads what tsc writes, which is regular, and nothing else.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

interface Declaration {
  readonly kind: string;
  readonly name: string;
  /** What it extends, where that is a class or interface of the SDK. */
  readonly base: string | undefined;
  /** All behind the name. */
  readonly text: string;
  readonly file: string;
}

/**
 * Every entry of the package, with the declarations that were built below `root`. What rows take and give is not repeated: the
 * table's lines have it.
 */
export function sdkLines(root: string): string[] {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | { types: string }>;
  };
  return Object.entries(exports).flatMap(([entry, target]) => {
    if (typeof target === "string") return [];
    const subject = ["sdk", ...entry.split("/").slice(1)].join(" ");
    return exportsOf(join(root, target.types)).flatMap((declaration) => linesOf(subject, declaration));
  });
}

function linesOf(subject: string, declaration: Declaration): string[] {
  const { kind, name, text } = declaration;
  if (kind !== "class" && kind !== "interface") return [`${subject} ${kind} ${name}: ${text}`];
  return [`${subject} ${kind} ${name}`, ...membersOf(declaration).map((line) => `${subject} ${name}.${line}`)];
}

/** Declarations that a module exports, by itself or out of others. */
function exportsOf(file: string): Declaration[] {
  const source = bare(readFileSync(file, "utf8"));
  const found = [...declarationsOf(source, file).values()];
  for (const [, names, target = ""] of source.matchAll(/export (?:type )?(\*|\{[^}]*\}) from "(\.[^"]+)";/g)) {
    const there = exportsOf(join(dirname(file), target.replace(/\.js$/, ".d.ts")));
    if (names === "*") found.push(...there);
    else {
      const wanted = new Set([...(names ?? "").matchAll(/(?:type )?(\w+)(?=[ ,}])/g)].map(([, name]) => name));
      found.push(...there.filter(({ name }) => wanted.has(name)));
    }
  }
  return found;
}

function declarationsOf(source: string, file: string): Map<string, Declaration> {
  const all = new Map<string, Declaration>();
  for (const match of source.matchAll(
    /^export (?:declare )?(?:abstract )?(class|interface|type|const|function) (\w+)/gm,
  )) {
    const [head, kind = "", name = ""] = match;
    const begin = match.index + head.length;
    const braced = kind === "class" || kind === "interface";
    const text = assigned(
      source
        .slice(begin, endOf(source, begin, braced))
        .replace(/\s+/g, " ")
        .trim(),
    );
    all.set(name, { kind, name, base: /^(?:<[^{]*>)? ?extends (\w+)/.exec(text)?.[1], text, file });
  }
  return all;
}

/** What stands behind `=` or `:`. */
function assigned(text: string): string {
  return text.replace(/^[=:] /, "");
}

/** Where a declaration ends: behind its body, or at the semicolon that is in no bracket. */
function endOf(source: string, begin: number, braced: boolean): number {
  let depth = 0;
  for (let at = begin; at < source.length; at++) {
    const letter = source[at] ?? "";
    if ("({[".includes(letter)) depth++;
    if (")}]".includes(letter) && --depth === 0 && braced && letter === "}") return at + 1;
    if (letter === ";" && depth === 0) return at;
  }
  return source.length;
}

/** `name: signature` of each, those of what it extends too. Of several signatures each has a number. */
function membersOf({ text, base, file }: Declaration): string[] {
  const body = text.slice(text.indexOf("{") + 1, text.lastIndexOf("}"));
  const members: string[] = [];
  const seen = new Map<string, number>();
  for (let at = 0; at < body.length; ) {
    const end = endOf(body, at, false);
    const member = body.slice(at, end).trim();
    at = end + 1;
    if (member === "" || /^(#private|private |protected )/.test(member)) continue;
    const [head = "", words = "", name = ""] =
      /^((?:static |readonly |get |set )*)(\[[\w.]+\]|\[|\w+\??)/.exec(member) ?? [];
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    members.push(`${name}${count > 1 ? ` (${count})` : ""}: ${words}${assigned(member.slice(head.length))}`);
  }
  return [...members, ...inherited(base, file)];
}

function inherited(base: string | undefined, file: string): string[] {
  if (base === undefined) return [];
  const source = bare(readFileSync(file, "utf8"));
  const here = declarationsOf(source, file).get(base);
  if (here) return membersOf(here);
  const from = new RegExp(`import (?:type )?\\{[^}]*\\b${base}\\b[^}]*\\} from "(\\.[^"]+)";`).exec(source)?.[1];
  if (from === undefined) return [];
  const there = join(dirname(file), from.replace(/\.js$/, ".d.ts"));
  const declaration = declarationsOf(bare(readFileSync(there, "utf8")), there).get(base);
  return declaration ? membersOf(declaration).filter((line) => !line.startsWith("constructor")) : [];
}

/** Without comments. */
function bare(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
}
