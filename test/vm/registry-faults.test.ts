// Registries that lie, refuse, break off or say nothing, and pulls that are interrupted: each a clear error, nothing
// left, and the next pull works.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { json, remains, storeOfItsOwn } from "../registry/home.ts";
import { digestOf, file, type Image, MANIFEST, makeImage, makeIndex, tar } from "../registry/image.ts";
import { LyingRegistry, type Misbehave, serveManifest } from "../registry/server.ts";
import { type OwnHome, pyro, startPyro, untilGone } from "./harness.ts";

// One layer that does not shrink, so that a part of it is a part.
const layer = tar([file("data", randomBytes(300_000))]);
const image = makeImage([layer]);
const [layerDigest = "", layerBytes = Buffer.alloc(0)] =
  [...image.blobs].find(([, data]) => data.length > 100_000) ?? [];
const [configDigest = "", configBytes = Buffer.alloc(0)] =
  [...image.blobs].find(([, data]) => data.length < 100_000) ?? [];
const arm: Image = makeIndex([{ image, architecture: "arm64" }]);
const variable: Image = makeImage([layer], { env: [`HUGE=${"x".repeat(200_000)}`] });
const LOGIN = `Basic ${Buffer.from("somebody:secret").toString("base64")}`;

function changed(data: Buffer): Buffer {
  const copy = Buffer.from(data);
  const at = Math.floor(copy.length / 2);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

/** Does something with one blob only. */
function onBlob(digest: string, act: (response: ServerResponse) => void): Misbehave {
  return (_kind, reference, response) => {
    if (reference !== digest) return false;
    act(response);
    return true;
  };
}

function onManifest(act: (response: ServerResponse, reference: string) => void): Misbehave {
  return (kind, reference, response) => {
    if (kind !== "manifests") return false;
    act(response, reference);
    return true;
  };
}

const lie = (data: Buffer) => (response: ServerResponse) => void response.end(data);
const manifestWith = (change: (manifest: Record<string, unknown>) => void) => {
  const manifest = JSON.parse(image.manifest.toString()) as Record<string, unknown>;
  change(manifest);
  return onManifest((response) =>
    serveManifest(response, { ...image, manifest: Buffer.from(JSON.stringify(manifest)) }),
  );
};

/** By repository: how the registry behaves, the code that follows, and what the message must say. */
const WAYS: Readonly<Record<string, readonly [Misbehave, code: string, says: RegExp]>> = {
  "byte-in-layer": [onBlob(layerDigest, lie(changed(layerBytes))), "ENVIRONMENT_DAMAGED", /the layer sha256:.* digest/],
  "byte-in-config": [onBlob(configDigest, lie(changed(configBytes))), "ENVIRONMENT_DAMAGED", /the configuration/],
  "byte-in-manifest": [
    onManifest((response) => {
      response.setHeader("content-type", MANIFEST);
      response.setHeader("docker-content-digest", digestOf(image.manifest));
      response.end(changed(image.manifest));
    }),
    "ENVIRONMENT_DAMAGED",
    /the manifest/,
  ],
  "short-layer": [onBlob(layerDigest, lie(layerBytes.subarray(0, 1000))), "ENVIRONMENT_DAMAGED", /not as long/],
  "long-layer": [
    onBlob(layerDigest, lie(Buffer.concat([layerBytes, layerBytes]))),
    "ENVIRONMENT_DAMAGED",
    /not as long/,
  ],
  "layer-breaks-off": [
    onBlob(layerDigest, (response) => {
      response.setHeader("content-length", layerBytes.length);
      response.write(layerBytes.subarray(0, 100_000), () => response.destroy());
    }),
    "ENVIRONMENT_DAMAGED",
    /broke off after \d+ of/,
  ],
  "not-our-platform": [
    onManifest((response) => serveManifest(response, arm)),
    "ENVIRONMENT_PLATFORM_MISSING",
    /linux\/arm64/,
  ],
  "no-such-tag": [
    onManifest((response) => void response.writeHead(404).end()),
    "ENVIRONMENT_NOT_FOUND",
    /does not have/,
  ],
  "no-such-layer": [
    onBlob(layerDigest, (response) => void response.writeHead(404).end()),
    "ENVIRONMENT_NOT_FOUND",
    /layer/,
  ],
  refused: [
    (_kind, _reference, response) => {
      response.writeHead(401, { "www-authenticate": 'Basic realm="here"' }).end();
      return true;
    },
    "REGISTRY_UNAUTHORIZED",
    /login/,
  ],
  forbidden: [onManifest((response) => void response.writeHead(403).end("no")), "REGISTRY_UNAUTHORIZED", /refused/],
  "speaks-to-terminals": [
    onManifest((response) => {
      const errors = [{ code: "\u001b]0;owned\u0007\u202e\nforged" }];
      response.writeHead(403, { "content-type": "application/json" }).end(JSON.stringify({ errors }));
    }),
    "REGISTRY_UNAUTHORIZED",
    /refused .*\( \]0;owned {3}forged\)/,
  ],
  "redirects-for-ever": [
    (kind, reference, response) => {
      if (kind !== "blobs") return false;
      response.writeHead(307, { location: `/v2/redirects-for-ever/blobs/${reference}` }).end();
      return true;
    },
    "REGISTRY_UNREACHABLE",
    /redirects/,
  ],
  "redirects-into-the-network": [
    onBlob(
      layerDigest,
      (response) => void response.writeHead(307, { location: "http://169.254.169.254/latest/" }).end(),
    ),
    "REGISTRY_UNREACHABLE",
    /not public/,
  ],
  "is-broken": [onManifest((response) => void response.writeHead(500).end("oops")), "REGISTRY_UNREACHABLE", /500/],
  "is-no-registry": [onManifest((response) => void response.end("<html>hello</html>")), "ENVIRONMENT_DAMAGED", /JSON/],
  "endless-manifest": [
    onManifest((response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(1 << 16, 32)));
      };
      response.on("drain", more);
      more();
    }),
    "LIMIT_EXCEEDED",
    /more than \d+ bytes/,
  ],
  "two-meanings": [
    manifestWith((manifest) => {
      manifest.manifests = [];
    }),
    "ENVIRONMENT_DAMAGED",
    /not of the type/,
  ],
  "no-container": [
    manifestWith((manifest) => {
      (manifest.config as Record<string, unknown>).mediaType = "application/vnd.cncf.helm.config.v1+json";
    }),
    "ENVIRONMENT_UNSUPPORTED",
    /helm/,
  ],
  "huge-variable": [
    (kind, reference, response) => {
      if (kind === "manifests") serveManifest(response, variable);
      else if (kind === "blobs") response.end(variable.blobs.get(reference));
      return kind !== "";
    },
    "ENVIRONMENT_UNSUPPORTED",
    /its variable "HUGE" has 200006 bytes/,
  ],
  "huge-layer": [
    manifestWith((manifest) => {
      (manifest.layers as Record<string, unknown>[])[0] = {
        ...(manifest.layers as Record<string, unknown>[])[0],
        size: 2 ** 40,
      };
    }),
    "LIMIT_EXCEEDED",
    /most that is taken/,
  ],
  "never-answers": [(kind) => kind === "manifests", "REGISTRY_UNREACHABLE", /did not answer in 20s/],
  "stalls-in-the-layer": [
    onBlob(layerDigest, (response) => {
      response.setHeader("content-length", layerBytes.length);
      response.write(layerBytes.subarray(0, 100_000));
    }),
    "REGISTRY_UNREACHABLE",
    /did not answer in 20s/,
  ],
};

/** Those that take their time, and so are pulled side by side. */
const SLOW = ["never-answers", "stalls-in-the-layer", "layer-breaks-off", "is-broken"];

const OTHERS: Readonly<Record<string, Misbehave>> = {
  // A byte now and then: neither an end nor a stall.
  drips: onBlob(layerDigest, (response) => {
    response.setHeader("content-length", layerBytes.length);
    let at = 0;
    const timer = setInterval(() => response.write(layerBytes.subarray(at, ++at)), 100);
    response.on("close", () => clearInterval(timer));
  }),
  slow: onBlob(layerDigest, (response) => void setTimeout(() => response.end(layerBytes), 2000)),
  private: (_kind, _reference, response, request) => {
    if (request.headers.authorization === LOGIN) return false;
    response.writeHead(401, { "www-authenticate": 'Basic realm="here"' }).end();
    return true;
  },
};

let registry: LyingRegistry;
let home: OwnHome;
let login: string;

before(async () => {
  const ways = Object.fromEntries(Object.entries(WAYS).map(([repository, [way]]) => [repository, way]));
  registry = await LyingRegistry.start(image, { ...ways, ...OTHERS });
  login = await mkdtemp(join(tmpdir(), "login-"));
  const auths = { [registry.host]: { auth: LOGIN.slice("Basic ".length) } };
  home = await storeOfItsOwn();
  await writeFile(join(login, "config.json"), JSON.stringify({ auths: { "elsewhere.example": auths[registry.host] } }));
});

after(async () => {
  await home?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  if (login !== undefined) await rm(login, { recursive: true });
});

async function pullFails(repository: string): Promise<void> {
  const [, code, says] = WAYS[repository] ?? assert.fail(repository);
  const { status, document } = await json(home, ["env", "pull", `${registry.host}/${repository}:tag`], {
    DOCKER_CONFIG: login,
  });
  assert.equal(document.error?.code, code, `${repository}: ${JSON.stringify(document)}`);
  assert.match(document.error.message, says, repository);
  assert.notEqual(document.error.hint, "");
  assert.equal(status, code === "LIMIT_EXCEEDED" ? 2 : 1, repository);
}

for (const repository of Object.keys(WAYS).filter((name) => !SLOW.includes(name))) {
  test(`${repository}: ${WAYS[repository]?.[1]}, and nothing is left`, async () => {
    await pullFails(repository);
    assert.deepEqual(await remains(home), []);
  });
}

test(`${SLOW.join(", ")}: an end to each, and nothing is left`, async () => {
  const began = performance.now();
  const ends = await Promise.allSettled(SLOW.map(pullFails));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
  assert.ok(performance.now() - began < 60_000);
  assert.deepEqual(await remains(home), []);
});

test("a registry that is nowhere, or that nobody runs, is unreachable", async () => {
  for (const reference of ["127.0.0.1:1/x", "no-such-registry.invalid/x"]) {
    const { document } = await json(home, ["env", "pull", reference]);
    assert.equal(document.error.code, "REGISTRY_UNREACHABLE");
  }
});

test("two at once share one pull; it is whole, and found by the next", async () => {
  const reference = `${registry.host}/slow:tag`;
  registry.asked.length = 0;
  const [one, two] = await Promise.all([
    json(home, ["env", "pull", reference]),
    json(home, ["env", "pull", reference]),
  ]);
  assert.deepEqual([one.status, two.status], [0, 0]);
  assert.equal(one.document.digest, two.document.digest);
  assert.equal(registry.asked.filter((path) => path.endsWith(layerDigest)).length, 1);
  assert.equal((await remains(home)).filter((name) => name.includes(".staging-")).length, 0);
  assert.equal((await json(home, ["env", "prune", "--all"])).document.removed[0].environments[0], reference);
  assert.deepEqual(
    (await remains(home)).filter((name) => !["images", "names"].includes(name)),
    [],
  );
});

/** Pids of pyro-image that work in this home. */
async function fetchers(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes("pyro-image") && command.includes(home.path)) found.push(pid);
  }
  return found;
}

async function staging(): Promise<string[]> {
  return (await remains(home)).filter((name) => name.includes(".staging-"));
}

async function whileItDrips(): Promise<ReturnType<typeof startPyro>> {
  const started = startPyro(["env", "pull", `${registry.host}/drips:tag`], { env: home.env });
  for (
    let tries = 0;
    (await fetchers()).length === 0 || !(await staging()).some((name) => name.includes("blobs/"));
    tries++
  ) {
    assert.ok(tries < 200 && started.child.exitCode === null, "the pull did not begin");
    await sleep(50);
  }
  return started;
}

test("Ctrl-C ends the pull, its program and what it had", async () => {
  const pull = await whileItDrips();
  pull.child.kill("SIGINT");
  const { status, signal } = await pull.finished;
  assert.ok(status === 130 || signal === "SIGINT", `status ${status}, signal ${signal}`);
  await untilGone(fetchers);
  await untilGone(staging);
});

test("a daemon that is killed takes the pull with it; the next one sweeps up, and pulls", async () => {
  const pull = await whileItDrips();
  process.kill(await home.pid(), "SIGKILL");
  await untilGone(fetchers);
  // The client begins anew or gives up; either way it says so, and is ended here.
  await sleep(200);
  pull.child.kill("SIGKILL");
  await pull.finished;
  await json(home, ["daemon", "stop"]);
  const { status } = await json(home, ["env", "pull", `${registry.host}/whole:tag`]);
  assert.equal(status, 0);
  await untilGone(fetchers);
  assert.deepEqual(await staging(), []);
});

test("the login of docker's configuration is used for its registry, and for no other", async () => {
  const reference = `${registry.host}/private:tag`;
  const refused = await json(home, ["env", "pull", reference]);
  assert.equal(refused.document.error.code, "REGISTRY_UNAUTHORIZED");
  await json(home, ["daemon", "stop"]);
  await writeFile(
    join(login, "config.json"),
    JSON.stringify({ auths: { [registry.host]: { auth: LOGIN.slice("Basic ".length) } } }),
  );
  const { status, document } = await json(home, ["env", "pull", reference], { DOCKER_CONFIG: login });
  assert.equal(status, 0, JSON.stringify(document));
  const log = await readFile(home.paths.log, "utf8");
  assert.ok(!log.includes("secret") && !log.includes(LOGIN));
  // Through a microVM's eyes it is an image like any other: without a program in it nothing runs.
  const ran = await pyro(["run", reference, "--", "/nothing"], { env: home.env });
  assert.equal(ran.status, 127);
});
