// What a person would have seen of a command's output: the lines of a terminal, with the few colours that pyro uses.
import * as headless from "@xterm/headless";
import type { Line, Style } from "./drawing.ts";

// A bundle of CommonJS: what node finds of its names differs from what is typed.
const library = (headless as unknown as { readonly default?: typeof headless }).default ?? headless;

/** Of the terminal that is recorded, and of the picture. */
export const COLUMNS = 96;
/** More than any command of a session prints. */
const ROWS = 200;

export async function screenOf(output: Uint8Array): Promise<Line[]> {
  const terminal = new library.Terminal({ cols: COLUMNS, rows: ROWS, allowProposedApi: true });
  await new Promise<void>((resolve) => terminal.write(output, resolve));
  const lines: Line[] = [];
  for (let row = 0; row < ROWS; row++) lines.push(lineOf(terminal.buffer.active, row));
  terminal.dispose();
  while (lines.at(-1)?.length === 0) lines.pop();
  return lines;
}

function lineOf(buffer: headless.IBuffer, row: number): Line {
  const line = buffer.getLine(row);
  const spans: { text: string; style: Style }[] = [];
  const width = line?.translateToString(true).length ?? 0;
  for (let column = 0; column < width; column++) {
    const cell = line?.getCell(column);
    if (cell === undefined || cell.getWidth() === 0) continue;
    const style = styleOf(cell);
    const text = cell.getChars() || " ";
    const last = spans.at(-1);
    if (last?.style === style) last.text += text;
    else spans.push({ text, style });
  }
  return spans;
}

function styleOf(cell: headless.IBufferCell): Style {
  if (cell.isFgPalette()) {
    const colour = cell.getFgColor() % 8;
    if (colour === 1) return "bad";
    if (colour === 2) return "good";
    if (colour === 3) return "warning";
  }
  return cell.isDim() ? "dim" : "plain";
}
