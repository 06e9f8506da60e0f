// The decisions of a workspace's network, as they are made.
import type { Calls } from "./calls.ts";
import { emitted } from "./listing.ts";
import type * as t from "./types.ts";

export function followedNetwork(
  calls: Calls,
  input: t.FollowedNetworkLogInput,
  options: t.CallOptions,
): AsyncIterable<t.NetworkEntry> {
  return emitted<t.NetworkEntry>((emit, left) => {
    const followed = calls.stream("network.log", input, {
      signal: options.signal ? AbortSignal.any([options.signal, left]) : left,
      onEvent: ({ entry }) => emit(entry),
    });
    return followed.catch((thrown: unknown) => {
      if (!left.aborted) throw thrown;
    });
  });
}
