// What a server's secrets become in a tool's call: values for names, and the hosts that the server has them for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ServedSecrets } from "../../../src/tools/secrets.ts";

const ENVIRONMENT = { TOKEN: "value-of-token", OTHER: "value-of-other" };

async function served(secretFor: string[]): Promise<ServedSecrets> {
  return await ServedSecrets.read({ secrets: ["TOKEN", "OTHER"], secretFor }, ENVIRONMENT, "/");
}

test("a secret with hosts of the server's is for those, whatever a model says", async () => {
  const secrets = await served(["TOKEN=a.example,b.example"]);
  const asked = (names: string[], secret_for?: string[]) => secrets.with({ secrets: names, secret_for }).secret_for;
  assert.deepEqual(asked(["TOKEN"]), ["TOKEN=a.example,b.example"]);
  assert.deepEqual(asked(["TOKEN"], ["TOKEN=A.example"]), ["TOKEN=a.example"]);
  assert.throws(() => asked(["TOKEN"], ["TOKEN=c.example"]), { code: "POLICY_FORBIDDEN" });
  assert.throws(() => asked(["TOKEN"], ["TOKEN=http://a.example"]), { code: "POLICY_FORBIDDEN" });
  assert.equal(asked(["OTHER"]), undefined);
  assert.deepEqual(asked(["OTHER"], ["OTHER=c.example"]), ["OTHER=c.example"]);
});

test("hosts of no secret, and what is no host, are refused when the server starts", async () => {
  await assert.rejects(served(["THIRD=a.example"]), { code: "SECRET_UNKNOWN" });
  await assert.rejects(served(["TOKEN=*.example"]), { code: "INVALID_INPUT" });
});
