// The lab's end of the port to its outer guest: frames in pieces, refusals, and a guest that goes.
import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { Channel, Refused } from "../../../scripts/laboratory/channel.ts";
import { GuestLost } from "../../../scripts/laboratory/failure.ts";

function frame(kind: string, text = ""): Buffer {
  const header = Buffer.alloc(5);
  header.write(kind, "latin1");
  header.writeUInt32LE(Buffer.byteLength(text), 1);
  return Buffer.concat([header, Buffer.from(text)]);
}

/** A guest that answers each request with these bytes, in pieces of one byte. */
function guest(...answers: Buffer[]): { port: Duplex; asked: Buffer[] } {
  const asked: Buffer[] = [];
  const port = new Duplex({
    read() {},
    write(data: Buffer, _, done) {
      asked.push(data);
      for (const byte of answers.shift() ?? []) port.push(Buffer.from([byte]));
      done();
    },
  });
  return { port, asked };
}

test("output and status come in whatever pieces", async () => {
  const { port, asked } = guest(
    Buffer.concat([frame("o", "one "), frame("!"), frame("e", "oops"), frame("o", "two"), frame("d", "7")]),
  );
  const heard = { out: "", error: "" };
  const status = await new Channel(port).run(["x"], {
    onStdout: (data) => {
      heard.out += data;
    },
    onStderr: (data) => {
      heard.error += data;
    },
  });
  assert.equal(status, 7);
  assert.deepEqual(heard, { out: "one two", error: "oops" });
  assert.deepEqual(asked, [frame("R", '["x"]')]);
});

test("a refusal is told apart from a guest that is lost", async () => {
  await assert.rejects(new Channel(guest(frame("x", "no such place")).port).prepare({}, 1000), Refused);
  await assert.rejects(new Channel(guest().port).prepare({}, 20), GuestLost);
  const { port } = guest();
  const channel = new Channel(port);
  const running = channel.run([], {});
  port.destroy();
  await assert.rejects(running, GuestLost);
  await assert.rejects(channel.run([], {}), GuestLost);
});

test("an archive is held up until it is taken", async () => {
  const { port } = guest(Buffer.concat([frame("a", "1"), frame("a", "2"), frame("d", "0")]));
  const taken: string[] = [];
  const status = await new Channel(port).fetch("/x", {
    onArchive: async (data) => {
      assert.equal(taken.length % 2, 0, "the next piece came before the last was taken");
      taken.push(`begin ${data}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
      taken.push(`end ${data}`);
    },
  });
  assert.equal(status, 0);
  assert.deepEqual(taken.slice(0, 3), ["begin 1", "end 1", "begin 2"]);
});
