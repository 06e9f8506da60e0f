// The numbered commands of the concurrency test: each prints lines that are its own, and ends with a status of its own.

const linesOf = (number: number) => 200 + 37 * (number % 11);
const fillOf = (number: number) => "x".repeat(number % 60);

export function commandOf(number: number): string[] {
  const line = `command ${number} line $i ${fillOf(number)}`;
  const loop = `i=0; while [ $i -lt ${linesOf(number)} ]; do echo "${line}"; i=$((i+1)); done`;
  return ["sh", "-c", `${loop}; exit ${statusOf(number)}`];
}

export function outputOf(number: number): string {
  const lines = Array.from(
    { length: linesOf(number) },
    (_, line) => `command ${number} line ${line} ${fillOf(number)}\n`,
  );
  return lines.join("");
}

export function statusOf(number: number): number {
  return number % 7;
}
