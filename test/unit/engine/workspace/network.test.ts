// Lists of hosts compared, and the decisions as they are read from files that are written meanwhile.
import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { wishOf } from "../../../../src/engine/network.ts";
import { isWithin } from "../../../../src/engine/workspace/allow-hosts.ts";
import { followNetwork, networkEntries } from "../../../../src/engine/workspace/network-log.ts";
import { PyroError } from "../../../../src/errors/error.ts";

test("a list is within another when it lets through no more", () => {
  for (const [inner, outer, want] of [
    [["a.example"], [], true],
    [[], [], true],
    [[], ["a.example"], false],
    [["a.example"], ["a.example", "b.example"], true],
    [["A.example."], ["a.EXAMPLE"], true],
    [["c.example"], ["a.example"], false],
    [["x.a.example"], ["*.a.example"], true],
    [["a.example"], ["*.a.example"], false],
    [["*.x.a.example"], ["*.a.example"], true],
    [["*.a.example"], ["*.x.a.example"], false],
    [["eva.example"], ["*.a.example"], false],
    [["203.0.113.1"], ["203.0.113.1"], true],
    [["2606::1"], ["*.1"], false],
  ] as const) {
    assert.equal(isWithin(inner, outer), want, `${inner} within ${outer}`);
  }
});

test("hosts to allow need a network", () => {
  assert.throws(
    () => wishOf({ network_policy: "off", allow_hosts: ["a.example"] }),
    (thrown) => thrown instanceof PyroError && thrown.code === "INVALID_INPUT",
  );
  assert.deepEqual(wishOf({ network_policy: "off" }), { network_policy: "off", allow_hosts: [] });
});

const lineOf = (index: number) =>
  `${JSON.stringify({ time: "t", protocol: "tcp", address: "9.9.9.9", port: index, verdict: "denied", reason: "r" })}\n`;

test("decisions are read page by page, over files, past what is no decision", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-netlog-"));
  t.after(() => rm(directory, { recursive: true }));
  assert.deepEqual(await networkEntries(join(directory, "none"), { limit: 5, cursor: undefined }), {
    entries: [],
    next_cursor: null,
  });
  const name = (start: number) => join(directory, `${String(start).padStart(16, "0")}.log`);
  const first = `${lineOf(1)}not JSON\n{"verdict":"maybe"}\n${lineOf(2)}`;
  await writeFile(name(1000), first);
  await writeFile(name(1000 + first.length), `${lineOf(3)}${lineOf(4)}{"half`);
  await writeFile(join(directory, "other"), "x");
  const page = await networkEntries(directory, { limit: 3, cursor: undefined });
  assert.deepEqual(
    page.entries.map(({ port }) => port),
    [1, 2, 3],
  );
  const rest = await networkEntries(directory, { limit: 3, cursor: page.next_cursor ?? "" });
  assert.deepEqual(
    rest.entries.map(({ port, name: host, count }) => [port, host, count]),
    [[4, null, 1]],
  );
  assert.equal(rest.next_cursor, null);
  await assert.rejects(
    networkEntries(directory, { limit: 3, cursor: "x" }),
    (thrown) => thrown instanceof PyroError && thrown.code === "CURSOR_INVALID",
  );
  const stop = new AbortController();
  const seen: (number | null)[] = [];
  await assert.rejects(async () => {
    for await (const { port } of followNetwork(directory, undefined, stop.signal)) {
      seen.push(port);
      if (port === 4) await appendFile(name(1000 + first.length), `"}\n${lineOf(5)}`);
      if (port === 5) stop.abort(new Error("enough"));
    }
  }, /enough|abort/);
  assert.deepEqual(seen, [1, 2, 3, 4, 5]);
});
