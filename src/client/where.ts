// Which daemon a client speaks to: the paths, and the environment that a daemon started by it gets.
import { type Paths, pathsFor } from "../engine/paths.ts";

export interface Where {
  readonly paths: Paths;
  readonly environment: NodeJS.ProcessEnv;
}

/** `home` replaces PYRO_HOME. */
export function whereFrom(environment: NodeJS.ProcessEnv = process.env, home?: string): Where {
  const own = home === undefined ? environment : { ...environment, PYRO_HOME: home };
  const uid = process.getuid?.() ?? 0;
  const paths = pathsFor(own, uid);
  // The daemon's working directory is /, so a relative PYRO_HOME has to become absolute before it inherits it.
  return { paths, environment: own.PYRO_HOME ? { ...own, PYRO_HOME: paths.state } : own };
}

/** What a daemon inherits of its first client's environment: never that client's secrets. */
export function daemonEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(environment)) {
    if (INHERITED.test(name)) kept[name] = value;
  }
  return kept;
}

const INHERITED =
  /^(PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|LANG|LC_[A-Z]+|XDG_[A-Z_]+|PYRO_[A-Z0-9_]+|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|DOCKER_CONFIG|REGISTRY_AUTH_FILE)$/;
