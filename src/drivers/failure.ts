// A microVM that did not come up, told with the stage it failed at and the end of its console.
import { PyroError } from "../errors/error.ts";
import { type Driver, type Machine, TemplateDamaged } from "./driver.ts";

/** Errors that mean something of their own, a damaged template's among them, are given back as they came. */
export async function explainFailure(
  error: unknown,
  machine: Machine,
  driver: Driver["name"],
  stage: string,
): Promise<unknown> {
  if (error instanceof TemplateDamaged) return error;
  const known = error instanceof PyroError ? error : undefined;
  if (known !== undefined && known.code !== "MICROVM_START_FAILED" && known.code !== "GUEST_UNRESPONSIVE") return error;
  const tail = (await machine.consoleTail()).trim();
  const message = known?.message ?? `The microVM did not come up: ${(error as Error).message}`;
  return new PyroError(known?.code ?? "MICROVM_START_FAILED", message, {
    cause: error,
    details: { stage, driver, console_tail: tail },
  });
}
