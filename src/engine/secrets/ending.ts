// Whether bytes begin with the end of a value whose beginning was lost.

/** How many bytes at the beginning of the data are the end of the value, as many as can be; not all of the value. */
export function endingOf(value: Uint8Array, data: Uint8Array): number {
  const start = data.subarray(0, value.length - 1);
  // How long a beginning of the data each beginning of it ends with (Knuth, Morris and Pratt).
  const borders = new Int32Array(start.length + 1);
  const extended = (length: number, byte: number): number => {
    let matched = length;
    while (matched > 0 && (matched === start.length || start[matched] !== byte)) matched = borders[matched] as number;
    return start[matched] === byte && start.length > 0 ? matched + 1 : 0;
  };
  for (let at = 1; at < start.length; at++) borders[at + 1] = extended(borders[at] as number, start[at] as number);
  let matched = 0;
  for (const byte of value) matched = extended(matched, byte);
  return matched;
}
