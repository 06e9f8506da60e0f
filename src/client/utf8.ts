// Cuts bytes without splitting a UTF-8 character. Pure.

const LONGEST = 4;

/** The largest end at most `end` that does not lie inside a character of `data`. */
export function cutBefore(data: Uint8Array, end: number): number {
  if (end >= data.length) return data.length;
  let at = end;
  while (at > 0 && end - at < LONGEST && isContinuation(data[at])) at--;
  return isContinuation(data[at]) ? end : at;
}

/** The smallest start at least `start` that does not lie inside a character of `data`. */
export function cutAfter(data: Uint8Array, start: number): number {
  if (start <= 0) return 0;
  let at = start;
  while (at < data.length && at - start < LONGEST && isContinuation(data[at])) at++;
  return at < data.length && isContinuation(data[at]) ? start : at;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
