// Trees of every kind of file that a workspace may be given, and one description of a tree that host and guest both make,
// to be compared line by line.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";

/**
 * Describes the directory it is run in: a line for each entry with its type, mode, time, size, link, content, and which
 * name of the same inode comes first. Holes are not read, and zeros are not told from holes. Owners are in it as others
 * than root's only, so that one must not find any.
 */
export const DESCRIBE = `
import hashlib, os, stat, sys
first = {}
def content(path, size):
    digest, fd, at = hashlib.sha256(), os.open(path, os.O_RDONLY), 0
    while at < size:
        try: at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError: break
        at -= at % 4096
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            block = os.pread(fd, 4096, at)
            if not block: break
            if block.strip(b"\\0"): digest.update(b"%d:" % at + block)
            at += 4096
    os.close(fd)
    return digest.hexdigest()
def walk(directory):
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        info = os.lstat(path)
        said = [repr(path)[2:-1], oct(info.st_mode), str(info.st_mtime_ns)]
        if stat.S_ISREG(info.st_mode):
            if info.st_nlink > 1: said.append("as " + repr(first.setdefault((info.st_dev, info.st_ino), path)))
            said += [str(info.st_size), content(path, info.st_size)]
        if stat.S_ISLNK(info.st_mode): said.append(repr(os.readlink(path)))
        if "owners" in sys.argv: said.append("%d:%d" % (info.st_uid, info.st_gid))
        print(" ".join(said))
        if stat.S_ISDIR(info.st_mode): walk(path)
walk(b".")
`;

/** Of a directory of the host. */
export function describeHere(path: string): string[] {
  const output = execFileSync("python3", ["-c", DESCRIBE], { cwd: path, maxBuffer: 1 << 28 });
  return output.toString().trimEnd().split("\n");
}

const isRoot = process.getuid?.() === 0;

/** All that is unusual: modes, times, links of every kind, names that are hard to say, a little of everything else. */
export function makeStrangeTree(path: string): void {
  const at = (...parts: (string | Buffer)[]) =>
    Buffer.concat([Buffer.from(path), ...parts.flatMap((part) => [Buffer.from("/"), Buffer.from(part)])]);
  const file = (name: string | Buffer, content: string | Buffer = `content of ${name}\n`, mode = 0o644) => {
    writeFileSync(at(name), content);
    chmodSync(at(name), mode);
  };
  for (const name of ["empty", "deep", "deep/er", "deep/er/still", "closed", "sticky", "later"]) mkdirSync(at(name));
  for (const mode of [0o600, 0o644, 0o755, 0o400, 0o777, 0o4755, 0o2755, 0o1644, 0o000])
    file(`mode-${mode.toString(8)}`, "x\n", isRoot ? mode : mode | 0o400);
  chmodSync(at("closed"), isRoot ? 0o700 : 0o755);
  chmodSync(at("sticky"), 0o1777);
  file("empty-file", "");
  file("bytes", Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7919) % 256)));
  for (const name of [
    " leading and trailing ",
    "new\nline",
    "tab\there",
    'quote"s',
    "back\\slash",
    "-dash",
    "*",
    "$HOME",
    "日本語",
    "é",
    "e\u0301",
  ])
    file(name);
  file(Buffer.from([0x66, 0xff, 0xfe, 0x80]));
  mkdirSync(at(Buffer.from([0xe9, 0x20, 0x0a])));
  file(Buffer.concat([Buffer.from([0xe9, 0x20, 0x0a]), Buffer.from("/within")]));
  file("n".repeat(255));
  const long = ["l".repeat(200), "o".repeat(200), "n".repeat(200), "g".repeat(200)];
  for (const [index] of long.entries()) mkdirSync(at(...long.slice(0, index + 1)));
  file(join(...long, "file"));
  file("deep/er/still/file");
  const links = {
    relative: "bytes",
    "deep/er/up": "../../bytes",
    "deep/er/out": "../../../../../../etc/hostname",
    absolute: "/etc/hostname",
    dangling: "nowhere/at all",
    directory: "deep",
    itself: "itself",
    lengthy: "x/".repeat(1500),
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, at(name));
  symlinkSync(Buffer.from([0xff, 0x0a]), at("to bytes"));
  file("linked");
  linkSync(at("linked"), at("deep", "hard link"));
  linkSync(at("linked"), at("later", "another"));
  if (isRoot) lchownSync(at("linked"), 1234, 4321);
  // Nanoseconds and all, before 1970 and after 2038 too, of links and directories as well.
  for (const [name, time] of [
    ["bytes", "2001-02-03T04:05:06.123456789Z"],
    ["empty-file", "1969-12-31T23:59:58.5Z"],
    ["linked", "2040-01-01T00:00:00.000000001Z"],
    ["deep", "2010-10-10T10:10:10.101010101Z"],
    ["relative", "1999-12-31T23:59:59.999999999Z"],
  ] as const) {
    execFileSync("touch", ["--no-dereference", "--date", time, join(path, name)]);
  }
  lutimesSync(at("dangling"), 1e9, 1e9 + 0.5);
}

/** A file of `bytes` that takes almost nothing: data at its beginning, somewhere in it and at its end. */
export async function makeSparse(path: string, bytes: number): Promise<void> {
  writeFileSync(path, "beginning\n");
  truncateSync(path, bytes);
  const file = await open(path, "r+");
  try {
    await file.write(Buffer.from("middle\n"), 0, 7, Math.floor(bytes / 3));
    await file.write(Buffer.from("end\n"), 0, 4, bytes - 4);
  } finally {
    await file.close();
  }
}

/** `count` small files, a hundred to a directory. */
export function makeSmallFiles(path: string, count: number, bytes = 100): void {
  for (let index = 0; index < count; index++) {
    const directory = join(path, `d${Math.floor(index / 100)}`);
    if (index % 100 === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `f${index}`), `file ${index}\n`.padEnd(bytes, `${index % 10}`));
  }
}

/**
 * node_modules as pnpm lays them out: each package once below .pnpm, its files hard links to a store beside it (or, where
 * `store` is outside of the tree, links that lead out of it), and symbolic links from package to package.
 */
export function makePnpmModules(path: string, store: string, packages: number): void {
  const home = (index: number) => join(path, "node_modules", ".pnpm", `package-${index}@1.0.${index}`, "node_modules");
  for (let index = 0; index < packages; index++) {
    const directory = join(home(index), `package-${index}`);
    mkdirSync(join(directory, "lib"), { recursive: true });
    for (const name of ["package.json", "index.js", "lib/cli.js", "LICENSE"]) {
      // Equal files are one in the store, whatever packages they are of.
      const stored = join(store, name === "LICENSE" ? "license" : `${index}-${name.replace("/", "-")}`);
      mkdirSync(dirname(stored), { recursive: true });
      if (name !== "LICENSE" || index === 0)
        writeFileSync(stored, `// ${name} of ${name === "LICENSE" ? "all" : index}\n`);
      if (name === "lib/cli.js") chmodSync(stored, 0o755);
      linkSync(stored, join(directory, name));
    }
    for (const needed of [index - 1, index - 7]) {
      if (needed >= 0)
        symlinkSync(
          `../../package-${needed}@1.0.${needed}/node_modules/package-${needed}`,
          join(home(index), `package-${needed}`),
        );
    }
  }
  mkdirSync(join(path, "node_modules", ".bin"));
  for (let index = 0; index < packages; index += 10) {
    symlinkSync(
      `.pnpm/package-${index}@1.0.${index}/node_modules/package-${index}`,
      join(path, "node_modules", `package-${index}`),
    );
    symlinkSync(`../package-${index}/lib/cli.js`, join(path, "node_modules", ".bin", `package-${index}`));
  }
}

/** A repository with one commit of `count` files, packed as a clone's is. */
export function makeRepository(path: string, count: number): void {
  makeSmallFiles(path, count);
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", path, "-c", "user.name=A", "-c", "user.email=a@example.org", ...args], {
      env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" },
    });
  git("init", "-q", "-b", "main");
  git("add", ".");
  git("commit", "-q", "-m", "All of it");
  git("gc", "-q");
}
