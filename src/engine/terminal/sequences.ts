// Where output of a terminal can be cut: between escape sequences and characters.

const ESC = 0x1b;
/** Further from the end than this no sequence is held to be unfinished, bytes. */
const LONGEST_SEQUENCE = 4096;

/**
 * How much of a piece of output is whole: an escape sequence or a character that is cut at its end is left out, for what
 * follows to begin with. All of it, when there is nothing before.
 */
export function plainEnd(data: Uint8Array): number {
  const sequences = wholeSequences(data);
  const end = wholeCharacters(data.subarray(0, sequences));
  return end === 0 ? data.length : end;
}

function wholeSequences(data: Uint8Array): number {
  const from = Math.max(0, data.length - LONGEST_SEQUENCE);
  const at = data.lastIndexOf(ESC);
  if (at < from || at === 0) return data.length;
  return isWhole(data.subarray(at)) ? data.length : at;
}

/** Of one sequence with whatever follows it. */
function isWhole(sequence: Uint8Array): boolean {
  const [, kind] = sequence;
  if (kind === undefined) return false;
  // CSI: parameters, then one byte that says what it is.
  if (kind === 0x5b) return sequence.subarray(2).some((byte) => byte >= 0x40 && byte <= 0x7e);
  // OSC, DCS, SOS, PM and APC are strings: an ESC of the end would have been found first, so BEL ends it or nothing.
  if ([0x5d, 0x50, 0x58, 0x5e, 0x5f].includes(kind)) return sequence.includes(0x07);
  // Intermediate bytes, then one that says what it is.
  return sequence.subarray(1).some((byte) => byte >= 0x30);
}

/** Where the last character of UTF-8 that is whole ends. */
function wholeCharacters(data: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, data.length); back++) {
    const byte = data[data.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const wants = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return wants <= back ? data.length : data.length - back;
  }
  return data.length;
}
