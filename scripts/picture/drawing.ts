// Lines of a terminal as an SVG: plain text elements in a window, readable in light and dark surroundings, and by a test.

export type Style = "plain" | "command" | "dim" | "good" | "bad" | "warning";
/** Pieces of one line, from left to right. */
export type Line = readonly { readonly text: string; readonly style: Style }[];

const COLOURS: Readonly<Record<Style, string>> = {
  plain: "#c9d1d9",
  command: "#ffffff",
  dim: "#8b949e",
  good: "#7ee787",
  bad: "#ff7b72",
  warning: "#d29922",
};
const FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const SIZE = 13;
const LEADING = 18;
/** Of one character, px: most fonts for terminals have 0.6 of their size. */
const ADVANCE = 0.6 * SIZE;
const MARGIN = 20;
const TOP = 44;

/** `title` is what is read out to somebody who does not see it. */
export function drawing(title: string, lines: readonly Line[]): string {
  const columns = Math.max(...lines.map((line) => line.reduce((sum, { text }) => sum + text.length, 0)));
  const width = Math.ceil(columns * ADVANCE) + 2 * MARGIN;
  const height = TOP + lines.length * LEADING + MARGIN - 6;
  const dots = ["#ff5f56", "#ffbd2e", "#27c93f"].map(
    (colour, at) => `<circle cx="${MARGIN + 5 + 18 * at}" cy="20" r="5.5" fill="${colour}"/>`,
  );
  const rows = lines.map((line, at) => {
    const spans = line.map(({ text, style }) => `<tspan class="${style}">${escaped(text)}</tspan>`);
    return `<text x="${MARGIN}" y="${TOP + 10 + at * LEADING}" xml:space="preserve">${spans.join("")}</text>`;
  });
  const styles = Object.entries(COLOURS).map(([style, colour]) => `.${style} { fill: ${colour}; }`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    "<style>",
    `text { font: ${SIZE}px ${FONT}; white-space: pre; }`,
    ".command { font-weight: 600; }",
    ...styles,
    "</style>",
    `<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>`,
    ...dots,
    ...rows,
    "</svg>",
    "",
  ].join("\n");
}

/** The lines of a drawing, as text. */
export function linesOf(svg: string): string[] {
  const rows = [...svg.matchAll(/<text [^>]*>(.*?)<\/text>/gs)].map(([, row = ""]) => row);
  return rows.map((row) =>
    row
      .replace(/<[^>]*>/g, "")
      .replaceAll("&lt;", "<")
      .replaceAll("&gt;", ">")
      .replaceAll("&amp;", "&"),
  );
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
