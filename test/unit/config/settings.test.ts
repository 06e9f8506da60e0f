// Settings: precedence, what is refused, what is warned of.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { withUserDefaults } from "../../../src/client/settings.ts";
import { readConfig, SETTINGS, settingValue } from "../../../src/config/settings.ts";
import { readSettings } from "../../../src/engine/settings.ts";
import { PyroError } from "../../../src/errors/error.ts";

/** An environment whose config.json holds this text. */
async function configured(text: string, variables: NodeJS.ProcessEnv = {}) {
  const directory = await mkdtemp(join(tmpdir(), "pyro-config-"));
  await mkdir(join(directory, "pyro"));
  await writeFile(join(directory, "pyro", "config.json"), text);
  return {
    environment: { XDG_CONFIG_HOME: directory, ...variables },
    path: join(directory, "pyro", "config.json"),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}

const refused = (message: RegExp) => (thrown: unknown) =>
  thrown instanceof PyroError && thrown.code === "INVALID_INPUT" && message.test(thrown.message);

test("a variable goes over config.json, and that over the default", async () => {
  await using set = await configured('{"driver":"qemu","pool_size":0,"unconfined":true,"template_limit":3}');
  const network = {
    networkNamespace: undefined,
    nameServers: undefined,
    publicRanges: undefined,
    networkMibPerSecond: 100,
    brokerAuthorities: undefined,
  };
  assert.deepEqual(readSettings(set.environment), {
    driver: "qemu",
    firecracker: undefined,
    unconfined: true,
    poolSize: 0,
    templateLimit: 3,
    ...network,
  });
  const variables = { PYRO_DRIVER: "firecracker", PYRO_FIRECRACKER: "/opt/firecracker", PYRO_POOL_SIZE: "4" };
  assert.deepEqual(readSettings({ ...set.environment, ...variables, PYRO_UNCONFINED: "0" }), {
    driver: "firecracker",
    firecracker: "/opt/firecracker",
    unconfined: false,
    poolSize: 4,
    templateLimit: 3,
    ...network,
  });
  const servers = { ...set.environment, PYRO_NAME_SERVERS: "192.0.2.1, 2001:db8::1" };
  assert.deepEqual(readSettings(servers).nameServers, ["192.0.2.1", "2001:db8::1"]);
  assert.throws(() => readSettings({ ...set.environment, PYRO_PUBLIC_RANGES: "everything" }), /PYRO_PUBLIC_RANGES/);
  // An empty variable is none.
  assert.equal(readSettings({ ...set.environment, PYRO_DRIVER: "" }).driver, "qemu");
});

test("without a file there are the defaults", () => {
  const nowhere = { XDG_CONFIG_HOME: "/nonexistent" };
  assert.deepEqual(readConfig(nowhere), { path: "/nonexistent/pyro/config.json", values: {}, warnings: [] });
  assert.equal(settingValue(SETTINGS.driver, nowhere, readConfig(nowhere)), "auto");
});

test("the environment of a run that names none is the user's, of nothing else", async () => {
  await using set = await configured('{"environment":"debian:12-base"}');
  const { environment } = set;
  assert.deepEqual(withUserDefaults("run", { command: ["x"] }, environment), {
    command: ["x"],
    environment: "debian:12-base",
  });
  const variable = { ...environment, PYRO_ENVIRONMENT: "debian:12-build" };
  assert.deepEqual(withUserDefaults("run", { environment: undefined }, variable), { environment: "debian:12-build" });
  assert.deepEqual(withUserDefaults("run", { environment: "debian:12" }, variable), { environment: "debian:12" });
  assert.deepEqual(withUserDefaults("env.pull", {}, variable), {});
  assert.equal(withUserDefaults("run", "no object", variable), "no object");
});

test("what cannot be understood is refused by name", async () => {
  for (const [variables, message] of [
    [{ PYRO_DRIVER: "vmware" }, /^PYRO_DRIVER is vmware; it takes auto, firecracker or qemu\.$/],
    [{ PYRO_FIRECRACKER: "firecracker" }, /^PYRO_FIRECRACKER is firecracker; it takes an absolute path\.$/],
    [{ PYRO_UNCONFINED: "maybe" }, /^PYRO_UNCONFINED is maybe; it takes 1 or 0/],
    [{ PYRO_POOL_SIZE: "65" }, /^PYRO_POOL_SIZE is 65; it takes a whole number from 0 to 64\.$/],
    [{ PYRO_NETWORK_MIB_PER_SECOND: "fast" }, /PYRO_NETWORK_MIB_PER_SECOND is fast; it takes a whole number/],
    [{ PYRO_POOL_SIZE: "-1" }, /PYRO_POOL_SIZE/],
  ] as const) {
    assert.throws(() => readSettings({ XDG_CONFIG_HOME: "/nonexistent", ...variables }), refused(message));
  }
  for (const [text, message] of [
    ["{", /config\.json cannot be understood: It is no JSON object/],
    ["[1]", /It is no JSON object/],
    ['{"driver":"vmware"}', /driver is "vmware"; it takes auto, firecracker or qemu/],
    ['{"pool_size":"2"}', /pool_size is "2"; it takes a whole number/],
    ['{"unconfined":1}', /unconfined is 1; it takes/],
    ['{"driver":null}', /driver is null/],
  ] as const) {
    await using set = await configured(text);
    assert.throws(() => readSettings(set.environment), refused(message), text);
  }
  assert.throws(
    () => settingValue(SETTINGS.log, { PYRO_LOG: "loud" }, { path: "", values: {}, warnings: [] }),
    refused(/PYRO_LOG is loud; it takes debug, info, warn, error or off\.$/),
  );
});

test("a key that nothing reads is warned of, with the one that was meant", async () => {
  await using set = await configured('{"pool_sise":1,"color":true}');
  assert.deepEqual(readConfig(set.environment).warnings, [
    `${set.path}: there is no setting pool_sise. Did you mean pool_size?`,
    `${set.path}: there is no setting color.`,
  ]);
});
