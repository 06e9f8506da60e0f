// The last look at what a caller is told: the words of errors, and those words in a result that a guest or a caller chose.
// Output and files come here without values already (src/engine/secrets); what else a result says is pyro's own.
import type { Engine } from "../engine/engine.ts";
import { Redactor } from "../engine/secrets/redactor.ts";
import { Secrets } from "../engine/secrets/secrets.ts";
import { PyroError } from "../errors/error.ts";
import type { InputOf } from "../operations/table.ts";

/** Keys of results whose texts are not pyro's own. */
const WORDS: ReadonlySet<string> = new Set([
  "changes_left_out",
  "command",
  "console_tail",
  "cwd",
  "link_target",
  "log_tail",
  "lost_reason",
  "message",
  "old_path",
  "patch",
  "path",
  "path_base64",
  "reason",
  "text_patch",
]);

/** For one call: what it is about may come to be, and go, while it is carried out. */
export class Redaction {
  readonly #engine: Engine;
  readonly #input: unknown;
  #redactor: Redactor | undefined;

  constructor(engine: Engine, input: unknown) {
    this.#engine = engine;
    this.#input = input;
  }

  /** A result or an event. */
  told(value: unknown): unknown {
    return this.#walk(value, this.#own, false);
  }

  /** Errors of other kinds come as PyroErrors. */
  error(thrown: unknown): PyroError {
    const error = PyroError.from(thrown);
    const redactor = this.#own;
    const { stack } = thrown instanceof Error ? thrown : error;
    if (redactor.idle) {
      // Where it happened, not where it was turned into an error of pyro.
      if (stack !== undefined) error.stack = stack;
      return error;
    }
    const told = new PyroError(error.code, redactor.text(error.message), {
      hint: redactor.text(error.hint),
      details: this.#walk(error.details, redactor, true) as Record<string, unknown>,
    });
    if (stack !== undefined) told.stack = redactor.text(stack);
    return told;
  }

  get #own(): Redactor {
    this.#redactor ??= this.#find(this.#input);
    return this.#redactor ?? Redactor.none;
  }

  #find(about: unknown): Redactor | undefined {
    const { workspace_id: workspaceId, vm_id: vmId, secrets } = Object(about) as Readonly<Record<string, unknown>>;
    if (Array.isArray(secrets) && secrets.some((secret) => typeof secret?.value === "string")) {
      return redactorOf(secrets);
    }
    if (typeof workspaceId === "string") return this.#engine.workspaces.find(workspaceId)?.secrets.redactor;
    return typeof vmId === "string" ? this.#engine.runs.find(vmId)?.secrets.redactor : undefined;
  }

  /** An object that says which workspace it is of is looked at for that one's secrets. */
  #walk(value: unknown, redactor: Redactor, whole: boolean): unknown {
    if (typeof value === "string") return whole ? redactor.text(value) : value;
    if (Array.isArray(value)) return value.map((item) => this.#walk(item, redactor, whole));
    if (typeof value !== "object" || value === null) return value;
    const own = this.#find(value) ?? redactor;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => {
        const words = whole || (WORDS.has(key) && (typeof item === "string" || isTexts(item)));
        return [key, own.idle && typeof item !== "object" ? item : this.#walk(item, own, words)];
      }),
    );
  }
}

/** What was sent may be anything, and is refused elsewhere. */
function redactorOf(secrets: unknown): Redactor {
  try {
    return Secrets.given(secrets as InputOf<"run">["secrets"]).redactor;
  } catch {
    return Redactor.none;
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
