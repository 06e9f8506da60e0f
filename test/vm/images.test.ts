// Images of a real registry as environments: what the layers become, seen from inside a microVM; names, digests and
// lists of manifests; tags that move; what is kept and what is pruned.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { Pyro } from "../../src/sdk/index.ts";
import { json, storeOfItsOwn } from "../registry/home.ts";
import { digestOf, dir, file, hardlink, MTIME, makeImage, makeIndex, push, symlink, tar } from "../registry/image.ts";
import { RealRegistry } from "../registry/server.ts";
import { type OwnHome, pyro, ROOT, startProgram } from "./harness.ts";

let registry: RealRegistry;
let home: OwnHome;
let lister: Buffer;

before(async () => {
  const directory = await mkdtemp(join(tmpdir(), "lister-"));
  const output = join(directory, "lister");
  const build = startProgram(
    "go",
    ["build", "-C", ROOT, "-buildvcs=false", "-ldflags=-s -w", "-o", output, "./test/registry/lister"],
    {
      env: { CGO_ENABLED: "0" },
    },
  );
  const { status, stderr } = await build.finished;
  assert.equal(status, 0, stderr.toString());
  lister = await readFile(output);
  await rm(directory, { recursive: true });
  [registry, home] = await Promise.all([RealRegistry.start(), storeOfItsOwn()]);
});

after(async () => {
  await home?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

interface Listed {
  readonly uid: number;
  readonly cwd: string;
  readonly env: readonly string[];
  readonly root: readonly string[];
  readonly files: readonly Found[];
}

interface Found {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly device: number;
  readonly inode: number;
  readonly links: number;
  readonly content: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

const hex = (text: string) => Buffer.from(text, "latin1").toString("hex");
const sum = (text: string) => createHash("sha256").update(text).digest("hex");

async function list(reference: string, directory: string): Promise<Listed> {
  const { status, stdout, stderr } = await pyro(["run", "--quiet", reference, "--", "/lister", directory], {
    env: home.env,
  });
  assert.equal(status, 0, stderr.toString());
  return JSON.parse(stdout.toString()) as Listed;
}

const CAPABILITY = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

test("layers become what extracting them would, in an image without a shell, /etc or /tmp", async () => {
  const deep = `data/${"a-long-name-of-a-directory/".repeat(12)}${"x".repeat(255)}`;
  const layers = [
    tar([
      file("lister", lister, { mode: 0o755 }),
      dir("usr"),
      dir("usr/bin"),
      symlink("bin", "usr/bin"),
      dir("data", 0o750),
      file("data/removed", "1"),
      file("data/replaced", "old", { mtime: MTIME - 1000 }),
      hardlink("data/was-replaced", "data/replaced"),
      dir("data/opaque"),
      file("data/opaque/hidden", "2"),
      dir("data/opaque/deep"),
      file("data/opaque/deep/hidden", "3"),
      dir("data/becomes-file"),
      file("data/becomes-file/lost", "4"),
      file("data/becomes-directory", "5"),
      file("data/capable", "6", {
        mode: 0o755,
        xattrs: { "security.capability": CAPABILITY, "user.note": "a=b\n\xff" },
      }),
      file("data/setuid", "7", { mode: 0o6755, uid: 1000, gid: 4_000_000 & 0o7777777 }),
      { name: "data/sticky/", type: "5", mode: 0o1777, mtime: MTIME - 5 },
      { name: "data/pipe", type: "6", mode: 0o622 },
      { name: "data/device", type: "3", mode: 0o640, device: [1, 5] },
    ]),
    tar([
      file("data/.wh.removed"),
      file("data/opaque/.wh..wh..opq"),
      file("data/opaque/seen", "8"),
      file("data/becomes-file", "9"),
      dir("data/becomes-directory"),
      file("data/becomes-directory/new", "10"),
      file("data/replaced", "new"),
      file("bin/tool", "11", { mode: 0o755 }),
    ]),
    tar([
      hardlink("data/second-name", "data/was-replaced"),
      hardlink("data/of-seen", "data/opaque/seen"),
      file(deep, "12"),
      symlink("data/dangling", "../../../etc/shadow"),
    ]),
  ];
  // Each layer packed in another way.
  const packers = [gzipSync, zstdCompressSync, (layer: Buffer) => layer];
  const image = makeImage(layers, {
    env: ["GREETING=hello world", "PATH=/only/here"],
    pack: (layer) => packers[layers.indexOf(layer)]?.(layer) ?? layer,
  });
  await push(registry.host, "team/tree", image, "1.0");
  const listed = await list(`${registry.host}/team/tree:1.0`, "/data");

  assert.equal(listed.uid, 0, "USER is not used");
  assert.equal(listed.cwd, "/workspace", "WORKDIR is not used");
  for (const variable of ["GREETING=hello world", "PATH=/only/here"]) assert.ok(listed.env.includes(variable));
  assert.deepEqual(
    listed.root.filter((name) => !["dev", "etc", "proc", "run", "sys", "tmp", "workspace"].includes(name)),
    ["bin", "data", "lister", "usr"],
  );
  const found = new Map(listed.files.map((entry) => [entry.path, entry]));
  const directories: [string, number][] = [];
  for (let at = 1; at <= 12; at++)
    directories.push([`/data/${"a-long-name-of-a-directory/".repeat(at).slice(0, -1)}`, 0o755]);
  const expected: [path: string, mode: number, content: string, more?: Partial<Found>][] = [
    ["/data", 0o40750, ""],
    ["/data/replaced", 0o100644, sum("new"), { links: 1 }],
    // Two names, of what the third one was once.
    ["/data/was-replaced", 0o100644, sum("old"), { links: 2 }],
    ["/data/second-name", 0o100644, sum("old"), { links: 2 }],
    ["/data/opaque", 0o40755, ""],
    ["/data/opaque/seen", 0o100644, sum("8"), { links: 2 }],
    ["/data/of-seen", 0o100644, sum("8"), { links: 2 }],
    ["/data/becomes-file", 0o100644, sum("9")],
    ["/data/becomes-directory", 0o40755, ""],
    ["/data/becomes-directory/new", 0o100644, sum("10")],
    [
      "/data/capable",
      0o100755,
      sum("6"),
      { xattrs: { "security.capability": hex(CAPABILITY), "user.note": hex("a=b\n\xff") } },
    ],
    ["/data/setuid", 0o106755, sum("7"), { uid: 1000, gid: 4_000_000 & 0o7777777 }],
    ["/data/sticky", 0o41777, "", { mtime: MTIME - 5 }],
    ["/data/pipe", 0o10622, ""],
    ["/data/device", 0o20640, "", { device: (1 << 8) | 5 }],
    [`/${deep}`, 0o100644, sum("12")],
    ["/data/dangling", 0o120777, "../../../etc/shadow"],
    ...directories.map(([path, mode]): [string, number, string] => [path, 0o40000 | mode, ""]),
  ];
  for (const [path, mode, content, more] of expected) {
    const entry = found.get(hex(path));
    assert.ok(entry !== undefined, `${path} is missing`);
    const actual = {
      path,
      mode: entry.mode.toString(8),
      content: entry.content,
      uid: entry.uid,
      gid: entry.gid,
      mtime: entry.mtime,
      xattrs: entry.xattrs,
    };
    const { links, device, ...rest } = { uid: 0, gid: 0, mtime: MTIME, xattrs: {}, ...more };
    assert.deepEqual(actual, { path, mode: mode.toString(8), content, ...rest });
    if (links !== undefined) assert.equal(entry.links, links, path);
    if (device !== undefined) assert.equal(entry.device, device, path);
    found.delete(hex(path));
  }
  assert.deepEqual(
    [...found.keys()].map((path) => Buffer.from(path, "hex").toString("latin1")),
    [],
  );
  const inode = (path: string) => listed.files.find((entry) => entry.path === hex(path))?.inode;
  assert.equal(inode("/data/was-replaced"), inode("/data/second-name"));
  assert.equal(inode("/data/of-seen"), inode("/data/opaque/seen"));
  // Through the link of the lower layer.
  assert.deepEqual(
    (await list(`${registry.host}/team/tree:1.0`, "/usr")).files.map(({ path }) => path),
    ["/usr", "/usr/bin", "/usr/bin/tool"].map(hex),
  );
});

test("what an image has in the place of /proc, /dev, /run, /tmp and /etc is no hindrance", async () => {
  const layer = tar([
    file("lister", lister, { mode: 0o755 }),
    dir("var/elsewhere"),
    symlink("proc", "/"),
    file("dev", "a file"),
    symlink("run", "var/elsewhere"),
    symlink("tmp", "/var/elsewhere"),
    symlink("etc", "nowhere"),
  ]);
  await push(registry.host, "strange", makeImage([layer]), "latest");
  const { files } = await list(`${registry.host}/strange`, "/tmp");
  assert.deepEqual(
    files.map(({ path, mode }) => [path, mode.toString(8)]),
    [[hex("/tmp"), "41777"]],
  );
});

test("a tag, a digest and a list of manifests name the same image; two names of one keep their own variables", async () => {
  const layer = tar([file("lister", lister, { mode: 0o755 })]);
  const ours = makeImage([layer], { env: ["FROM=ours"] });
  const other = makeImage([tar([file("arm")])], { architecture: "arm64" });
  const newer = makeImage([layer], { env: ["FROM=v3"] });
  const index = makeIndex([
    { image: other, architecture: "arm64" },
    { image: newer, architecture: "amd64", variant: "v3" },
    { image: ours, architecture: "amd64" },
  ]);
  for (const image of [ours, other, newer]) await push(registry.host, "multi", image);
  await push(registry.host, "multi", index, "latest");
  const digest = digestOf(ours.manifest);

  const pulled = await json(home, ["env", "pull", `${registry.host}/multi`]);
  assert.equal(pulled.status, 0, JSON.stringify(pulled.document));
  assert.equal(pulled.document.environment, `${registry.host}/multi:latest`);
  const { document } = await json(home, ["env", "inspect", `${registry.host}/multi:latest`]);
  assert.equal(document.manifest_digest, digest);
  assert.equal(document.index_digest, digestOf(index.manifest));
  assert.equal(document.platform, "linux/amd64");
  assert.equal(document.layers.length, 1);
  assert.equal(document.kind, "oci");

  const byDigest = `${registry.host}/multi@${digest}`;
  const newest = `${registry.host}/multi@${digestOf(newer.manifest)}`;
  const [first, second] = await Promise.all([list(byDigest, "/lister"), list(newest, "/lister")]);
  assert.ok(first.env.includes("FROM=ours") && second.env.includes("FROM=v3"));
  // One file system, so one image.
  const rows = (await json(home, ["env", "list"])).document.environments as { environment: string; digest: string }[];
  const digests = rows.filter(({ environment }) => environment.includes("/multi")).map((row) => row.digest);
  assert.equal(digests.length, 3);
  assert.equal(new Set(digests).size, 1);
  // A list without our platform.
  await push(registry.host, "multi", makeIndex([{ image: other, architecture: "arm64" }]), "arm");
  const missing = await json(home, ["env", "pull", `${registry.host}/multi:arm`]);
  assert.equal(missing.document.error.code, "ENVIRONMENT_PLATFORM_MISSING");
  const unknown = await json(home, ["env", "pull", `${registry.host}/multi:nope`]);
  assert.equal(unknown.document.error.code, "ENVIRONMENT_NOT_FOUND");
});

test("a tag that moves is followed by pull, not by a start; what it left behind is pruned", async () => {
  const reference = `${registry.host}/moving:tag`;
  const version = (text: string) => makeImage([tar([file("lister", lister, { mode: 0o755 }), file("version", text)])]);
  await push(registry.host, "moving", version("1"), "tag");
  const read = async () => (await list(reference, "/version")).files[0]?.content;
  assert.equal(await read(), sum("1"));
  await push(registry.host, "moving", version("2"), "tag");
  assert.equal(await read(), sum("1"));
  const pyroHere = new Pyro({ home: home.path });
  const before = await pyroHere.inspectEnvironment({ environment: reference });
  const pulled = await pyroHere.pullEnvironment({ environment: reference });
  assert.notEqual(pulled.digest, before.digest);
  assert.equal(await read(), sum("2"));
  // Again: nothing has changed, nothing is made.
  assert.equal((await pyroHere.pullEnvironment({ environment: reference })).digest, pulled.digest);

  const would = await pyroHere.pruneEnvironments({ dryRun: true });
  assert.ok(would.removed.some(({ kind, name }) => kind === "image" && name === before.digest));
  const pruned = await pyroHere.pruneEnvironments();
  assert.deepEqual(pruned.removed, would.removed);
  assert.ok(pruned.reclaimedBytes > 1_000_000);
  assert.equal(await read(), sum("2"));
  const { document } = await json(home, ["env", "prune", "--all"]);
  assert.ok(document.removed.some(({ environments }: { environments: string[] }) => environments.includes(reference)));
  const gone = await json(home, ["env", "inspect", reference]);
  assert.equal(gone.document.error.code, "ENVIRONMENT_NOT_FOUND");
  assert.match(gone.document.error.hint, /env pull/);
  await pyroHere.close();
});
