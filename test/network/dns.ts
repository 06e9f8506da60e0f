// As much of DNS as the tests' name server needs: questions for addresses, and their answers.

const TYPE_A = 1;
const TYPE_AAAA = 28;
const NAME_ERROR = 3;

/**
 * The answer to a query; undefined for what is none. `addressesOf` gives undefined for a name that there is not; it is asked
 * with `first` for IPv4, which every client asks for, so that both kinds of one question get one list.
 */
export function answerQuery(
  query: Buffer,
  addressesOf: (name: string, first: boolean) => readonly string[] | undefined,
): Buffer | undefined {
  if (query.length < 17 || (query.readUInt16BE(2) & 0x8000) !== 0) return undefined;
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  const type = query.readUInt16BE(at + 1);
  const question = query.subarray(12, at + 5);
  const all = addressesOf(labels.join(".").toLowerCase(), type === TYPE_A);
  const isAsked = (address: string) => type === (address.includes(":") ? TYPE_AAAA : TYPE_A);
  const wanted = (all ?? []).filter(isAsked);
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(0x8180 | (all === undefined ? NAME_ERROR : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(wanted.length, 6);
  const answers = wanted.map((address) => {
    const bytes = bytesOf(address);
    const head = Buffer.alloc(12);
    head.writeUInt16BE(0xc00c, 0);
    head.writeUInt16BE(type, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt32BE(30, 6);
    head.writeUInt16BE(bytes.length, 10);
    return Buffer.concat([head, bytes]);
  });
  return Buffer.concat([header, question, ...answers]);
}

function bytesOf(address: string): Buffer {
  if (!address.includes(":")) return Buffer.from(address.split(".").map(Number));
  const [before = [], after = []] = address.split("::").map((part) => part.split(":").filter(Boolean));
  const zeroes = Array.from({ length: 8 - before.length - after.length }, () => "0");
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...before, ...zeroes, ...after].entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * index);
  }
  return bytes;
}
