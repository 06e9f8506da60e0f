// What the user set for clients. Read by the client, not the daemon: that one may have been started by another shell.
import { readConfig, SETTINGS, settingValue } from "../config/settings.ts";
import { logFrom } from "../log/log.ts";
import { FACTS } from "../operations/facts.ts";
import type { OperationName } from "../operations/table.ts";

/** The input with the user's settings where it says nothing. Errors: INVALID_INPUT naming a variable or the file. */
export function withUserDefaults(operation: OperationName, input: unknown, environment: NodeJS.ProcessEnv): unknown {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return input;
  // What has no default has to be said: nobody pulls the environment that happens to be set.
  if (FACTS[operation].properties.environment?.default === undefined) return input;
  if ("environment" in input && input.environment !== undefined) return input;
  const name = settingValue(SETTINGS.environment, environment, readConfig(environment));
  return name === undefined ? input : { ...input, environment: name };
}

/** Sets the level of this process's log, warnings unless the user wants another; returns what is to be warned of. */
export function configureLog(environment: NodeJS.ProcessEnv): readonly string[] {
  const file = readConfig(environment);
  logFrom(settingValue(SETTINGS.log, environment, file) ?? "warn");
  return file.warnings;
}

/** Where things are kept, how the network is reached, which certificates and logins hold: no settings, and as needed. */
const AROUND =
  /^(PYRO_HOME|XDG_(STATE|CACHE|CONFIG)_HOME|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|DOCKER_CONFIG|REGISTRY_AUTH_FILE)$/;

/** What of an environment a pyro elsewhere needs to act as here: the daemon that it may start reads it. */
export function carriedVariables(environment: NodeJS.ProcessEnv): Record<string, string> {
  const settings: readonly (string | null)[] = Object.values(SETTINGS).map(({ variable }) => variable);
  const carried: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value && (settings.includes(name) || AROUND.test(name))) carried[name] = value;
  }
  return carried;
}
