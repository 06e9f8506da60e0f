// Colours of a terminal, where there is one and NO_COLOR is not set.

/** `code`: an SGR number, such as 32 for green. */
export function coloured(text: string, code: number): string {
  const plain = process.stdout.isTTY !== true || (process.env.NO_COLOR ?? "") !== "" || process.env.TERM === "dumb";
  return plain ? text : `\x1b[${code}m${text}\x1b[0m`;
}

export function emphasized(text: string): string {
  return coloured(text, 1);
}
