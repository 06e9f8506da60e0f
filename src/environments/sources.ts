// The host's own package sources: reads apt's two formats and picks those whose signed Release says the wanted Debian.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** One archive and suite, as apt sees it. */
export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  /** Path of a keyring, a fingerprint or an inline key (several lines); absent: the host's trusted keys. */
  readonly signedBy?: string;
}

/** The fields of a Release file that name it. */
export interface Release {
  readonly origin: string;
  readonly codename: string;
  /** When it was published, seconds since 1970; 0 when it does not say. */
  readonly publishedAt: number;
}

/** Reads every source below an /etc/apt. Files that cannot be read are skipped: apt's own errors name them. */
export async function readSources(etcApt: string): Promise<AptSource[]> {
  const parts = join(etcApt, "sources.list.d");
  const names = (await readdir(parts).catch(() => [])).sort();
  const files = [join(etcApt, "sources.list"), ...names.map((name) => join(parts, name))];
  const sources: AptSource[] = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (file.endsWith(".sources")) sources.push(...parseDeb822(text));
    else if (file.endsWith(".list")) sources.push(...parseOneLine(text));
  }
  return sources;
}

/** Parses the `deb [options] uri suite component...` format. Unsigned, source-only and foreign ones are left out. */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/#.*/, "").trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (!match) continue;
    const [, optionText = "", uri = "", suite = "", components = ""] = match;
    const options = new Map<string, string>();
    for (const option of optionText.split(/\s+/)) {
      const at = option.indexOf("=");
      if (at > 0) options.set(option.slice(0, at).replace(/[+-]$/, "").toLowerCase(), option.slice(at + 1));
    }
    const source = accept({
      uri,
      suite,
      components: words(components),
      signedBy: options.get("signed-by"),
      architectures: (options.get("arch") ?? "").split(",").filter(Boolean),
      trusted: options.get("trusted") ?? options.get("allow-insecure"),
    });
    if (source) sources.push(source);
  }
  return sources;
}

/** Parses the deb822 format (`*.sources`). The same are left out, and those that are not enabled. */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const fields of stanzas(text)) {
    if (!words(fields.get("types") ?? "").includes("deb")) continue;
    if (/^(no|false|without|off|disable|0)$/i.test(fields.get("enabled") ?? "yes")) continue;
    for (const uri of words(fields.get("uris") ?? "")) {
      for (const suite of words(fields.get("suites") ?? "")) {
        const source = accept({
          uri,
          suite,
          components: words(fields.get("components") ?? ""),
          signedBy: fields.get("signed-by"),
          architectures: words(fields.get("architectures") ?? ""),
          trusted: fields.get("trusted") ?? fields.get("allow-insecure"),
        });
        if (source) sources.push(source);
      }
    }
  }
  return sources;
}

interface RawSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
  readonly architectures: readonly string[];
  readonly trusted: string | undefined;
}

function accept(raw: RawSource): AptSource | undefined {
  if (raw.architectures.length > 0 && !raw.architectures.includes("amd64")) return undefined;
  // "trusted" switches the check of signatures off: such a source proves nothing.
  if (/^(yes|true|with|on|enable|1)$/i.test(raw.trusted ?? "no")) return undefined;
  // A suite that ends in a slash is a flat archive, which Debian's is not; a CD may not be in the drive.
  if (raw.suite.endsWith("/") || raw.components.length === 0 || raw.uri.startsWith("cdrom:")) return undefined;
  const source = { uri: raw.uri.replace(/\/+$/, ""), suite: raw.suite, components: raw.components };
  if (source.uri === "") return undefined;
  return raw.signedBy ? { ...source, signedBy: raw.signedBy } : source;
}

/** The paragraphs of a deb822 text: lower-case field names; continuation lines keep their newlines. */
function stanzas(text: string): Map<string, string>[] {
  const found: Map<string, string>[] = [];
  let fields = new Map<string, string>();
  let last = "";
  for (const line of [...text.split("\n"), ""]) {
    if (line.startsWith("#")) continue;
    if (line.trim() === "") {
      if (fields.size > 0) found.push(fields);
      fields = new Map();
      last = "";
    } else if (/^\s/.test(line)) {
      if (last) fields.set(last, `${fields.get(last) ?? ""}\n${line}`);
    } else {
      const at = line.indexOf(":");
      if (at < 0) continue;
      last = line.slice(0, at).trim().toLowerCase();
      fields.set(last, line.slice(at + 1).trim());
    }
  }
  return found;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter(Boolean);
}

/** Writes sources in the deb822 format. `targets` limits what apt fetches, for example ["Packages"]. */
export function renderSources(sources: readonly AptSource[], targets?: readonly string[]): string {
  return sources
    .map((source) =>
      [
        "Types: deb",
        `URIs: ${source.uri}`,
        `Suites: ${source.suite}`,
        `Components: ${source.components.join(" ")}`,
        "Architectures: amd64",
        ...(targets ? [`Targets: ${targets.join(" ")}`] : []),
        ...(source.signedBy ? [`Signed-By: ${source.signedBy}`] : []),
        "",
      ].join("\n"),
    )
    .join("\n");
}

/** The Release that apt has checked and kept in `lists` for a source, or undefined when it has none. */
export async function readRelease(lists: string, source: AptSource): Promise<Release | undefined> {
  const base = join(lists, `${listName(source.uri)}_dists_${listName(source.suite)}`);
  for (const name of ["InRelease", "Release"]) {
    const text = await readFile(`${base}_${name}`, "utf8").catch(() => undefined);
    if (text !== undefined) return parseRelease(text);
  }
  return undefined;
}

export function parseRelease(text: string): Release {
  const field = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*?)\\s*$`, "m").exec(text)?.[1] ?? "";
  const date = Date.parse(field("Date"));
  return {
    origin: field("Origin"),
    codename: field("Codename"),
    publishedAt: Number.isNaN(date) ? 0 : Math.floor(date / 1000),
  };
}

/** True for Debian's own archive of a release, its updates and its security fixes; not for backports. */
export function isDebian(release: Release, codename: string): boolean {
  return (
    release.origin === "Debian" && [codename, `${codename}-updates`, `${codename}-security`].includes(release.codename)
  );
}

/** How apt makes a file name of a URI: without scheme and user, some characters quoted, slashes as underscores. */
function listName(uri: string): string {
  return uri
    .replace(/^[a-z0-9+.-]+:(\/\/)?/i, "")
    .replace(/^[^/@]*@/, "")
    .replace(/[\\|{}[\]<>"^~_=!@#$%&*]/g, (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`)
    .replaceAll("/", "_");
}
