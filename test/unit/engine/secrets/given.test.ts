// Which secrets are brokered and for whom, what the guest has of them and what netd is told, and a value that is changed.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeAuthority } from "../../../../src/engine/secrets/authority.ts";
import { givenSecrets } from "../../../../src/engine/secrets/given.ts";
import { Secrets } from "../../../../src/engine/secrets/secrets.ts";
import { SECRET_FOR_PATTERN, secretForOf } from "../../../../src/operations/secret-rules.ts";

const EGRESS = { network_policy: "egress", allow_hosts: [] } as const;
const GIVEN = [
  { name: "TOKEN", value: "value-of-token", source: "env:TOKEN" },
  { name: "PLAIN", value: "value-of-plain" },
];
const AUTHORITY = { certificate: "-----BEGIN CERTIFICATE-----\n", key: "-----BEGIN PRIVATE KEY-----\n" };
const asked = (secret_for: string[]) => ({ secrets: GIVEN, secret_for });

test("hosts are names, and each secret's are named once", () => {
  for (const good of ["A=a", "A=a.example", "A=http://a.example,b-c.example.org", "_a9=x_y.example."]) {
    assert.match(good, SECRET_FOR_PATTERN);
  }
  for (const wrong of [
    "A",
    "A=",
    "A=,",
    "A=a,",
    "A=*.a",
    "A=1.2.3.4",
    "A=::1",
    "A=https://a",
    "A=a:443",
    "A=a/b",
    "A=-a",
    "9=a",
    "A=a b",
    `A=${"a".repeat(64)}.b`,
    `A=${"ab.".repeat(90)}c`,
  ]) {
    assert.doesNotMatch(wrong, SECRET_FOR_PATTERN);
  }
  assert.deepEqual(secretForOf(["A=X.example.,x.example,http://y"]), { A: ["x.example", "http://y"] });
  assert.throws(() => secretForOf(["A=a", "A=b"]), { code: "SECRET_INVALID" });
  assert.throws(() => secretForOf([`A=${Array.from({ length: 65 }, (_, at) => `h${at}`).join(",")}`]), {
    code: "SECRET_INVALID",
  });
});

test("a secret's hosts must be reachable, and it must be given", () => {
  const words = asked(["TOKEN=http://api.example"]);
  assert.throws(() => givenSecrets(words, { network_policy: "off", allow_hosts: [] }), {
    code: "SECRET_HOST_FORBIDDEN",
  });
  const narrow = { ...EGRESS, allow_hosts: ["other.example"] };
  assert.throws(() => givenSecrets(words, narrow), { code: "SECRET_HOST_FORBIDDEN" });
  givenSecrets(words, { ...EGRESS, allow_hosts: ["*.example"] });
  assert.throws(() => givenSecrets(asked(["OTHER=a"]), EGRESS), { code: "SECRET_UNKNOWN" });
});

test("the guest has a placeholder, netd and the redactor have the value, and it can be changed", async () => {
  const parent = await mkdtemp(join(tmpdir(), "brokered-"));
  const directory = join(parent, "secrets");
  try {
    const secrets = givenSecrets(asked(["TOKEN=api.example"]), EGRESS);
    let hosts: readonly string[] = [];
    await secrets.store(directory, async (wanted) => {
      hosts = wanted;
      return AUTHORITY;
    });
    assert.deepEqual(hosts, ["api.example"]);
    for (const name of await readdir(directory)) assert.equal((await stat(join(directory, name))).mode & 0o777, 0o600);
    const { TOKEN: placeholder = "", PLAIN, SSL_CERT_FILE } = secrets.variables;
    assert.match(placeholder, /^pyro-secret-[0-9a-f]{32}$/);
    assert.deepEqual([PLAIN, SSL_CERT_FILE], [undefined, "/run/pyro/trust/bundle.pem"]);
    assert.deepEqual(secrets.environment({ A: "TOKEN", B: "PLAIN" }).map(String), [
      `A=${placeholder}`,
      "B=value-of-plain",
    ]);
    const told = {
      name: "TOKEN",
      placeholder,
      hosts: ["api.example"],
      value: Buffer.from("value-of-token").toString("base64"),
    };
    assert.deepEqual(secrets.broker, { authority: AUTHORITY, secrets: [told] });
    assert.equal(secrets.redactor.text("a value-of-token"), "a [redacted:TOKEN]");

    const replace = async (name: string) =>
      await secrets.replace(directory, [{ name, value: "another-one", source: "stdin" }]);
    await assert.rejects(replace("OTHER"), { code: "SECRET_UNKNOWN" });
    await assert.rejects(replace("PLAIN"), { code: "SECRET_NOT_BROKERED" });
    await replace("TOKEN");
    assert.equal(await readFile(join(directory, "TOKEN"), "utf8"), "another-one");
    assert.equal(secrets.redactor.text("value-of-token another-one"), "[redacted:TOKEN] [redacted:TOKEN]");
    assert.equal(secrets.facts[0]?.source, "stdin");

    const again = await Secrets.load(directory, secrets.facts);
    assert.deepEqual(again.broker, secrets.broker);
    assert.deepEqual(again.variables, secrets.variables);
    await rm(join(directory, "authority.json"));
    await assert.rejects(Secrets.load(directory, secrets.facts), { code: "HOST_IO_FAILED" });
  } finally {
    await rm(parent, { recursive: true });
  }
});

test("without a brokered one there is no authority, and nothing for netd", async () => {
  assert.deepEqual(Secrets.given(GIVEN).variables, {});
  assert.equal(Secrets.given(GIVEN).broker, undefined);
  await assert.rejects(makeAuthority("/bin/false", ["a"]), { code: "NETWORK_FAILED" });
  await assert.rejects(makeAuthority("/bin/echo", ["a"]), { code: "NETWORK_FAILED" });
});
