// Progress of what a call waits for, told to its caller as events.
import type { EventOf } from "../operations/table.ts";
import { ToClient } from "../wire/protocol.ts";
import type { Reply } from "./stream.ts";

/** Never waits: a caller who does not read misses nothing that matters. */
export function teller(reply: Reply): (progress: Omit<EventOf<"env.pull">, "type">) => void {
  return (progress) => {
    const event: EventOf<"env.pull"> & EventOf<"doctor"> & EventOf<"workspace.create"> = {
      type: "progress",
      ...progress,
    };
    void reply.json(ToClient.Event, event);
  };
}
