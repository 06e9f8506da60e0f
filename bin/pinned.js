// Runs pyro with the checkout's own Node where an older one was called: `node bin/pyro.js`. bin/pyro needs none of this.
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";

const SIGNALS = ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"];

/** Ends as that Node ends; `refuse` says that it cannot run. */
export function runWith(node, refuse) {
  const child = spawn(fileURLToPath(node), process.argv.slice(1), { stdio: "inherit" });
  // A terminal sends Ctrl-C to both of us, and passing it on would make it two; without one only this process gets it.
  const passedOn = hasTerminal() ? ["SIGTERM", "SIGHUP"] : SIGNALS;
  for (const signal of SIGNALS) {
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
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}
