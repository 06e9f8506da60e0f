// As much of DNS as the tests' name server needs: questions for addresses, and their answers.

const TYPE_A = 1;
const TYPE_AAAA = 28;
const NAME_ERROR = 3;

/** The answer to a query; undefined for what is none. `addressesOf` gives undefined for a name that there is not. */
export function answerQuery(
  query: Buffer,
  addressesOf: (name: string) => readonly string[] | undefined,
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
  // Of a name with both kinds every list counts as one question: that for IPv4, which every client asks.
  const all = type === TYPE_A ? addressesOf(labels.join(".").toLowerCase()) : [];
  const wanted = (all ?? []).filter((address) => (type === TYPE_AAAA) === address.includes(":"));
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(0x8180 | (all === undefined ? NAME_ERROR : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(wanted.length, 6);
  const answers = wanted.map((address) => {
    const record = Buffer.alloc(16);
    record.writeUInt16BE(0xc00c, 0);
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(1, 4);
    record.writeUInt32BE(30, 6);
    record.writeUInt16BE(4, 10);
    Buffer.from(address.split(".").map(Number)).copy(record, 12);
    return record;
  });
  return Buffer.concat([header, question, ...answers]);
}
