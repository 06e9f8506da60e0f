// The hint of an error as a model gets it. Models do what they are told, and many have a shell on the host: no hint over
// MCP names a command, a variable or a file of the host.
import { CODES } from "../errors/codes.ts";
import type { PyroError } from "../errors/error.ts";
import { OPERATOR_HINT } from "../errors/facts.ts";

/** Commands, options, variables and paths. A wrong guess costs exactness only: the code's own hint is given then. */
const OF_THE_HOST =
  /`|\bpyro\b|\b(PYRO|XDG)_|(^|\s)--?[a-z]|(^|[\s("'])(~?\/|\.\/)|\w\.(json|sources|list|log|conf)\b|\b(apt(-get)?|usermod|sysctl|sudo|chmod|chown)\b|\b(install|package|make) /i;

export function hintForModel(error: PyroError): string {
  const { hint, mcpHint } = CODES[error.code];
  if (mcpHint === OPERATOR_HINT || error.hint === hint) return mcpHint;
  if (!OF_THE_HOST.test(error.hint)) return error.hint;
  // A setting of the host's, not an argument of the tool.
  return error.code === "INVALID_INPUT" ? OPERATOR_HINT : mcpHint;
}
