// Reading apt's sources: both formats, and what must not be taken for a signed Debian.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  isDebian,
  parseDeb822,
  parseOneLine,
  parseRelease,
  readRelease,
  readSources,
  renderSources,
} from "../../../src/environments/sources.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

test("the one-line format, with and without options", () => {
  const text = `
# deb http://mirror.example/debian sid main
deb http://mirror.example/debian/ bookworm main contrib # a comment
deb [arch=amd64,arm64 signed-by=${KEYRING}] https://mirror.example/debian bookworm-updates main
deb-src http://mirror.example/debian bookworm main
deb [arch=armhf] http://mirror.example/debian bookworm main
deb [trusted=yes] http://192.0.2.1/debian bookworm main
deb http://flat.example/repo ./
deb cdrom:[Debian]/ bookworm main
`;
  assert.deepEqual(parseOneLine(text), [
    { uri: "http://mirror.example/debian", suite: "bookworm", components: ["main", "contrib"] },
    { uri: "https://mirror.example/debian", suite: "bookworm-updates", components: ["main"], signedBy: KEYRING },
  ]);
});

test("the deb822 format: every URI with every suite, inline keys kept, disabled and untrusted ones left out", () => {
  const text = `Types: deb deb-src
# a comment in a stanza
URIs: http://mirror.example/debian
 http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: ${KEYRING}

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://trusted.example/debian
Suites: bookworm
Components: main
Trusted: yes

Types: deb
URIs: http://inline.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
`;
  const sources = parseDeb822(text);
  assert.deepEqual(
    sources.map(({ uri, suite }) => `${uri} ${suite}`),
    [
      "http://mirror.example/debian bookworm",
      "http://mirror.example/debian bookworm-updates",
      "http://mirror.example/debian bookworm",
      "http://mirror.example/debian bookworm-updates",
      "http://inline.example/debian bookworm",
    ],
  );
  assert.match(sources[4]?.signedBy ?? "", /BEGIN PGP[\s\S]*\n mQINBF\n[\s\S]*END PGP/);
});

test("what is rendered reads back the same", () => {
  const sources = parseDeb822(
    `Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n x\n`,
  );
  assert.equal(sources.length, 1);
  assert.deepEqual(parseDeb822(renderSources(sources)), sources);
  assert.match(renderSources(sources, ["Packages"]), /^Targets: Packages$/m);
});

test("only Debian's own bookworm counts, by its Release", () => {
  const release = (origin: string, codename: string) =>
    parseRelease(`-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: ${origin}\nSuite: oldstable\nCodename: ${codename}\n`);
  assert.equal(isDebian(release("Debian", "bookworm"), "bookworm"), true);
  assert.equal(isDebian(release("Debian", "bookworm-updates"), "bookworm"), true);
  assert.equal(isDebian(release("Debian", "bookworm-security"), "bookworm"), true);
  assert.equal(isDebian(release("Debian", "bookworm-backports"), "bookworm"), false);
  assert.equal(isDebian(release("Debian", "trixie"), "bookworm"), false);
  assert.equal(isDebian(release("Ubuntu", "bookworm"), "bookworm"), false);
  assert.equal(isDebian(release("", ""), "bookworm"), false);
});

test("a Release is found under the name that apt gives it", async (t) => {
  const lists = await mkdtemp(join(tmpdir(), "lists-"));
  t.after(() => rm(lists, { recursive: true }));
  const text = "Origin: Debian\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n";
  await writeFile(join(lists, "mirror.example:8080_my%5fdebian_dists_oldstable_Release"), text);
  const source = { uri: "http://user:secret@mirror.example:8080/my_debian", suite: "oldstable", components: ["main"] };
  const publishedAt = Date.UTC(2026, 6, 11, 10, 16, 37) / 1000;
  assert.deepEqual(await readRelease(lists, source), { origin: "Debian", codename: "bookworm", publishedAt });
  assert.equal(await readRelease(lists, { ...source, suite: "stable" }), undefined);
});

test("all files of an /etc/apt are read, others and missing ones are not missed", async (t) => {
  const etc = await mkdtemp(join(tmpdir(), "etc-apt-"));
  t.after(() => rm(etc, { recursive: true }));
  assert.deepEqual(await readSources(etc), []);
  await mkdir(join(etc, "sources.list.d"));
  await writeFile(join(etc, "sources.list"), "deb http://a.example/debian bookworm main\n");
  await writeFile(join(etc, "sources.list.d", "b.list"), "deb http://b.example/debian bookworm main\n");
  await writeFile(
    join(etc, "sources.list.d", "c.sources"),
    "Types: deb\nURIs: http://c.example\nSuites: bookworm\nComponents: main\n",
  );
  await writeFile(join(etc, "sources.list.d", "d.list.save"), "deb http://d.example/debian bookworm main\n");
  assert.deepEqual(
    (await readSources(etc)).map(({ uri }) => uri),
    ["http://a.example/debian", "http://b.example/debian", "http://c.example"],
  );
});
