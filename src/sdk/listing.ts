// Lists as callers take them: a page as a promise, or every item in a loop; and entries as they come.
import type { Listing } from "./types.ts";

/** `page` asks for the page that a cursor begins; the first is asked for at once. */
export function listing<Page extends { nextCursor: string | null }, Item>(
  page: (cursor: string | undefined) => Promise<Page>,
  first: string | undefined,
  itemsOf: (page: Page) => readonly Item[],
): Listing<Page, Item> {
  const begun = page(first);
  async function* items(): AsyncGenerator<Item, void, undefined> {
    let current = await begun;
    for (;;) {
      yield* itemsOf(current);
      if (current.nextCursor === null) return;
      current = await page(current.nextCursor);
    }
  }
  return Object.assign(begun, { [Symbol.asyncIterator]: items });
}

/**
 * Items that a call hands to `emit` while it runs, as a loop. It begins with the loop, and ends with it: leaving aborts
 * the call, and what the call rejects with the loop throws. A promise of `emit` holds the call back.
 */
export async function* emitted<Item>(
  call: (emit: (item: Item) => Promise<void>, left: AbortSignal) => Promise<unknown>,
): AsyncGenerator<Item, void, undefined> {
  const left = new AbortController();
  const waiting: Item[] = [];
  let over = false;
  let wakeReader = () => {};
  let wakeWriter = () => {};
  const emit = async (item: Item) => {
    waiting.push(item);
    wakeReader();
    while (waiting.length > 0 && !left.signal.aborted) {
      await new Promise<void>((resolve) => {
        wakeWriter = resolve;
      });
    }
  };
  const done = call(emit, left.signal).finally(() => {
    over = true;
    wakeReader();
  });
  done.catch(() => {});
  try {
    for (;;) {
      const item = waiting.shift();
      if (item !== undefined) {
        yield item;
        wakeWriter();
      } else if (over) {
        break;
      } else {
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
      }
    }
  } finally {
    left.abort();
    wakeWriter();
  }
  await done;
}
