// An error with a stranger's words in it, as a person's terminal gets it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { ToClient } from "../../../src/wire/protocol.ts";
import { Conversation, listen, temporaryHome } from "../client/fake-daemon.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const HOSTILE = "\u001b]0;owned\u0007\u009b2J\u202e";
const SHOWN = "\\x1b]0;owned\\x07\\x9b2J\\u202e";

test("message, hint and log are shown with their controls as escapes, with --verbose too", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    const details = { log_tail: `one ${HOSTILE}\r\ntwo\n`, other: HOSTILE };
    const error = { code: "REGISTRY_UNREACHABLE", message: `It said ${HOSTILE}\nforged`, hint: HOSTILE, details };
    talk.json(ToClient.Error, error);
  });
  for (const flags of [[], ["--verbose"]]) {
    const child = spawn(process.execPath, [PYRO, ...flags, "run", "--", "x"], {
      env: { ...process.env, PYRO_HOME: home.directory },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const said: Buffer[] = [];
    child.stderr.on("data", (chunk: Buffer) => said.push(chunk));
    const [status] = await once(child, "close");
    const text = Buffer.concat(said).toString();
    assert.equal(status, 125);
    const expected = `pyro: It said ${SHOWN}\\nforged\n      ${SHOWN}\n    | one ${SHOWN}\n    | two\n`;
    if (flags.length === 0) assert.equal(text, expected);
    else assert.ok(text.includes(expected) && text.length > expected.length, text);
    assert.doesNotMatch(text, /(?!\n)[\p{Cc}\p{Bidi_Control}]/u);
  }
});
