// What strangers wrote (a registry, an image, a guest's console), made fit for a terminal and a line of a log: what would
// steer the one or forge the other is shown as its escape. A leaf. Node has stripVTControlCharacters, which takes escape
// sequences out and leaves all other controls in, and nobody sees that there was one.

// Controls (C0, DEL, C1), those that turn the direction of writing, and the two separators that end lines. Not the tab.
const UNFIT = /(?!\t)[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;
const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r" };

/** One line, whatever it holds. */
export function printable(text: string): string {
  return text.replace(UNFIT, (character) => {
    const code = character.charCodeAt(0);
    const numbered = code < 0x100 ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`;
    return NAMED[character] ?? numbered;
  });
}

/** Lines that stay lines, such as those of a log. */
export function printableLines(text: string): string {
  return text
    .split(/\r*\n/)
    .map((line) => printable(line))
    .join("\n");
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}
