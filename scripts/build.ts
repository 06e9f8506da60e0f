// Bundles src/ into dist/: the command, the daemon and the SDK, sharing chunks, and the SDK's type declarations.
import { execFileSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");

const result = await build({
  absWorkingDir: root,
  entryPoints: { cli: "src/cli/main.ts", daemon: "src/daemon/main.ts", sdk: "src/sdk/index.ts" },
  outdir: "dist",
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22",
  splitting: true,
  chunkNames: "chunks/[name]-[hash]",
  metafile: true,
  minifySyntax: true,
  legalComments: "none",
  // Some dependencies are CommonJS and call require, which a module does not have.
  banner: {
    js: 'import { createRequire as __pyroRequire } from "node:module"; const require = __pyroRequire(import.meta.url);',
  },
  logLevel: "warning",
});

// Chunks of earlier builds would be packed with the rest.
const made = new Set(Object.keys(result.metafile.outputs).map((path) => relative("dist/chunks", path)));
for (const name of await readdir(join(dist, "chunks")).catch(() => [])) {
  if (!made.has(name)) await rm(join(dist, "chunks", name));
}

await rm(join(dist, "types"), { recursive: true, force: true });
execFileSync(join(root, "node_modules", ".bin", "tsc"), ["-p", join(root, "scripts", "tsconfig.types.json")], {
  stdio: "inherit",
});
