// Serves one connection of a run: its progress, and what any connection does for its process. A run may see several
// connections; it belongs to the engine, not to any of them.
import type { Engine } from "../engine/engine.ts";
import type { Run } from "../engine/run.ts";
import type { Claim } from "../engine/runs.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { race, receive, streamOutput } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** How long a run's preparation may still take when a wait is over and the preparation itself is done, ms. */
const START_GRACE_MS = 15_000;
/** How long finding everything prepared may take, ms. A first boot takes longer. */
const PREPARED_GRACE_MS = 1000;

export async function serveRun(
  engine: Engine,
  input: ParsedInputOf<"run">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const claim = engine.runs.claim(
    { vmId: head.vm_id, input, terminal: head.terminal, stdinClosed: head.stdin_closed },
    { attached: head.attached, mustExist: head.resume !== undefined },
  );
  const { run } = claim;
  const tell = (event: EventOf<"run">) => void reply.json(ToClient.Event, event);
  const unlisten = run.listen(tell);
  const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
  const cancelled = new AbortController();
  const stop = AbortSignal.any([gone, cancelled.signal]);
  // Controls and stdin are read from the start: a cancel must be heard while an environment is being built.
  void receive(run, "run", head, requests, reply, stop, (reason) => {
    cancelled.abort(reason);
    run.cancel(reason);
  });
  let finished = false;
  try {
    await untilStarted(run, wait, stop);
    tell({ type: "started", vm_id: run.vmId, process_id: run.processId });
    const resultOf = (cursor: bigint) => engine.runs.resultOf(run, cursor);
    finished = await streamOutput(run, resultOf, head, reply, wait, stop);
    if (finished) finished = await reply.delivered();
  } catch (thrown) {
    // A run that cannot be is over for its client as soon as the client knows why.
    if (gone.aborted) return;
    finished = true;
    if (thrown instanceof PyroError && thrown.code === "ENVIRONMENT_PREPARING") {
      // The run is over, what it waited for goes on. This order: a preparation that nobody waits for is ended.
      engine.keepPreparing(input.environment);
      run.cancel(thrown);
    }
    throw cancelled.signal.aborted ? cancelled.signal.reason : thrown;
  } finally {
    unlisten();
    leave(claim, finished, head);
  }
}

/** A run that is kept until read is kept after its end too. */
function leave(claim: Claim, finished: boolean, head: RequestHead): void {
  const over = claim.run.facts.end !== undefined;
  claim.leave(finished && (head.attached || !over));
}

async function untilStarted(run: Run, wait: AbortSignal | undefined, stop: AbortSignal): Promise<void> {
  const first = await race(run.started, wait, stop);
  if (first === "done") return;
  // Where everything is there already, a look at it takes a moment, however short the wait.
  if (run.waitsForPreparation) await race(run.prepared, AbortSignal.timeout(PREPARED_GRACE_MS), stop);
  if (run.waitsForPreparation) {
    throw new PyroError("ENVIRONMENT_PREPARING", "The environment is being prepared; the command was not started.");
  }
  if ((await race(run.started, AbortSignal.timeout(START_GRACE_MS), stop)) === "done") return;
  throw new PyroError("MICROVM_START_FAILED", "The microVM does not come up in time.");
}
