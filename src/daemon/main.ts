// The daemon's process: opens the engine, serves the socket, and leaves in order on SIGTERM or when asked. Its one
// instance per home is held by the lock that its starter took (see src/client/start-daemon.ts).

import { readConfig, SETTINGS, settingValue } from "../config/settings.ts";
import { Engine } from "../engine/engine.ts";
import { pathsFor } from "../engine/paths.ts";
import { readSettings } from "../engine/settings.ts";
import { PyroError } from "../errors/error.ts";
import { log, logFrom } from "../log/log.ts";
import { serve } from "./server.ts";

async function main(): Promise<void> {
  process.title = "pyro-daemon";
  process.umask(0o077);
  const paths = pathsFor(process.env, process.getuid?.() ?? 0);
  const config = readConfig(process.env);
  logFrom(settingValue(SETTINGS.log, process.env, config) ?? "info");
  for (const warning of config.warnings) log(warning, "warn");
  const settings = readSettings(process.env, config);
  const engine = await Engine.open(paths, settings);
  let ending: Promise<void> | undefined;
  const end = (why: string) => {
    ending ??= (async () => {
      log(`stopping: ${why}`);
      await engine.close();
    })();
    return ending;
  };
  const server = await serve(paths, engine, () => end("asked to")).catch(async (error: unknown) => {
    await engine.release();
    throw error;
  });
  const leave = (why: string) =>
    void end(why)
      .catch((thrown) => log(`not everything could be ended: ${describe(thrown)}`, "error"))
      .then(() => server.close());
  process.on("SIGTERM", () => leave("SIGTERM"));
  process.on("SIGINT", () => leave("SIGINT"));
  process.on("SIGHUP", () => {});
  log(`serving on ${paths.daemonSocket}`);
}

// A fault in one call must not end the microVMs' keeper; it is written down, and the call has failed already.
process.stderr.on("error", () => {
  // A log on a full disk is no reason to end.
});
// A fault outside every call leaves nothing to rely on, so nothing more is done: Node prints it too and ends with status
// 1. Whatever runs has its record and its output on disk; the next daemon takes it up as after a kill, and the clients
// whose connections broke start that one at once.
process.on("uncaughtExceptionMonitor", (error, origin) => {
  if (origin === "uncaughtException") log(`uncaught, ending: ${describe(error)}`, "error");
});
process.on("unhandledRejection", (reason) => log(`unhandled: ${describe(reason)}`, "error"));

main().catch((thrown: unknown) => {
  // Whatever the level: the client that started us shows this line.
  logFrom("error");
  log(`cannot start: ${describe(thrown)}`, "error");
  process.exitCode = 1;
});

function describe(thrown: unknown): string {
  if (thrown instanceof PyroError) return `${thrown.code}: ${thrown.message} ${thrown.hint}`;
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
