// Bundles src/ into dist/: the command, the daemon, the SDK, its schemas and its tools for agents, sharing chunks, and the SDK's type declarations.
// Libraries are bundled too, so that the package depends on none; which ones stands in dist/stamps for scripts/notices.ts.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";
import { emitTypes } from "./public-types.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");

/**
 * Node's own modules by process.getBuiltinModule. An import statement reads every export of one, and with that loads
 * what stands behind the lazy ones: undici behind node:http, 40 ms of a command that takes 60, and the standard streams
 * behind node:process.
 */
const builtins: Plugin = {
  name: "builtins",
  setup({ onResolve, onLoad }) {
    // The suffix makes one for each importer: shared ones would be files of their own, a millisecond each to load.
    onResolve({ filter: /^node:/ }, ({ path, importer }) => ({
      path,
      namespace: "builtin",
      suffix: `?${importer}`,
      sideEffects: false,
    }));
    onLoad({ filter: /./, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
      loader: "js",
    }));
  },
};

/** A module whose exports are plain data, as that data: what it is worked out from stays out of the bundle. */
const evaluated: Plugin = {
  name: "evaluated",
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/(operations\/facts|sdk\/schemas)\.ts$/ }, async ({ path }) => {
      const exported = Object.entries((await import(path)) as Record<string, unknown>);
      return {
        contents: exported.map(([name, value]) => `export const ${name} = ${JSON.stringify(value)};`).join("\n"),
        loader: "js",
      };
    });
  },
};

const result = await build({
  absWorkingDir: root,
  entryPoints: {
    cli: "src/cli/main.ts",
    daemon: "src/daemon/main.ts",
    sdk: "src/sdk/index.ts",
    schemas: "src/sdk/schemas.ts",
    ai: "src/ai/index.ts",
    terminal: "src/engine/terminal/worker.ts",
  },
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
  plugins: [builtins, evaluated],
  // Some dependencies are CommonJS and call require, which a module does not have.
  banner: {
    js: 'const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);',
  },
  logLevel: "warning",
});

// Chunks of earlier builds would be packed with the rest.
const made = new Set(Object.keys(result.metafile.outputs).map((path) => relative("dist/chunks", path)));
for (const name of await readdir(join(dist, "chunks")).catch(() => [])) {
  if (!made.has(name)) await rm(join(dist, "chunks", name));
}

const bundled = Object.values(result.metafile.outputs).flatMap(({ inputs }) =>
  Object.entries(inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(([path]) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? ""),
);
await mkdir(join(dist, "stamps"), { recursive: true });
await writeFile(join(dist, "stamps", "bundled"), `${[...new Set(bundled)].filter(Boolean).sort().join("\n")}\n`);

await emitTypes(join(dist, "types"));
