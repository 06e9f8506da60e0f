// The recipes beside debian:12, built here and used for what they are for.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { before, test } from "node:test";
import type { OutputOf } from "../../src/operations/table.ts";
import { HOST, NO_INTERNET, openInternet } from "../network/internet.ts";
import { makePackages, PACKAGE, SAID_BY_NPM, SAID_BY_PIP, TOOLS } from "../network/packages.ts";
import { ownHome, pyro, runOk } from "./harness.ts";
import { Workspaces } from "./workspaces.ts";

/** Building one takes minutes on a busy machine. */
const options = { timeout: 540_000 };

before(async () => {
  // Side by side: each works on one core for the most part.
  await Promise.all(
    ["debian:12-base", "debian:12-build"].map(async (environment) => {
      const { status, stderr } = await pyro(["env", "pull", environment]);
      assert.equal(status, 0, stderr.toString());
    }),
  );
}, options);

test("debian:12-base is Debian with apt and little else", options, async () => {
  const script = ". /etc/os-release; echo $VERSION_ID; apt-get --version | head -n 1; command -v git python3; true";
  const [version, apt, ...surplus] = (await runOk(["--quiet", "debian:12-base", "--", "sh", "-c", script]))
    .trim()
    .split("\n");
  assert.equal(version, "12");
  assert.match(apt ?? "", /^apt 2\./);
  assert.deepEqual(surplus, []);
});

const PROJECT = `
set -eu
mkdir project && cd project
cat > greet.h <<'END'
#ifdef __cplusplus
extern "C"
#endif
int greet(const char *name);
END
cat > greet.c <<'END'
#include <stdio.h>
#include "greet.h"
int greet(const char *name) { return printf("hello %s\\n", name); }
END
cat > mixed.cc <<'END'
#include <string>
#include "greet.h"
int main() { std::string name("C"); greet(name.c_str()); greet((name + "++").c_str()); }
END
cat > main.c <<'END'
#include "greet.h"
int main(void) { return greet("cmake") < 0; }
END
cat > CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.20)
project(greeting C)
add_executable(greeting main.c greet.c)
END
cat > Makefile <<'END'
by-make: mixed.o greet.o
	$(CXX) -o $@ $^
END
make --no-print-directory -s by-make
./by-make
# What cmake would try out first takes long where a guest is emulated.
cmake -S . -B build -DCMAKE_C_COMPILER_FORCED=1 >/dev/null
cmake --build build >/dev/null
./build/greeting
pkg-config --version >/dev/null
git --version
python3 -m venv --without-pip venv
venv/bin/python -c 'print(sum(range(10)))'
command -v pip3
`;

test("debian:12-build compiles C and C++ with make and cmake, and has Python with venv and pip", options, async () => {
  const printed = await runOk(["--quiet", "debian:12-build", "--", "sh", "-c", PROJECT]);
  const lines = printed.trim().split("\n");
  assert.deepEqual(lines.slice(0, 3), ["hello C", "hello C++", "hello cmake"]);
  assert.match(lines[3] ?? "", /^git version 2\./);
  assert.deepEqual(lines.slice(4), ["45", "/usr/bin/pip3"]);
});

const INSTALL = `
set -eu
curl -sS http://packages.example${TOOLS} | tar x -C /opt
cat /opt/ca.pem "$NODE_EXTRA_CA_CERTS" >/opt/both.pem
export PATH=/opt/bin:$PATH NODE_EXTRA_CA_CERTS=/opt/both.pem
pip3 install --quiet --break-system-packages --root-user-action=ignore --disable-pip-version-check --no-cache-dir \\
  --no-compile --index-url https://user:$TOKEN@tokens.example/simple/ ${PACKAGE} &
node /opt/npm/bin/npm-cli.js install --silent --no-audit --no-fund --no-update-notifier --ignore-scripts \\
  --registry https://tokens.example/npm/ --//tokens.example/npm/:_authToken=$TOKEN ${PACKAGE}
wait $!
python3 -c '
import os
from pip._vendor import requests
requests.get("https://tokens.example/requests", headers={"Authorization": os.environ["TOKEN"]}).raise_for_status()
'
python3 -c 'import ${PACKAGE}; print(${PACKAGE}.said)'
node -e '
  console.log(require("${PACKAGE}"));
  const told = (name) => fetch("https://" + name + "/").then((answer) => answer.text(), () => "refused");
  Promise.all(["packages.example", "other.example"].map(told)).then((all) => console.log(all.join("")));
  void fetch("https://tokens.example/requests", { headers: { authorization: process.env.TOKEN } });
'
`;

test("pip, npm and fetch reach the hosts that are allowed and no other; two of them with a secret that is brokered", {
  ...options,
  skip: NO_INTERNET,
}, async () => {
  await using internet = await openInternet({
    "packages.example": [[HOST]],
    "tokens.example": [[HOST]],
    "other.example": [[HOST]],
  });
  await using home = await ownHome({ templates: true });
  await makePackages(internet.directory, "tokens.example");
  const TOKEN = randomBytes(16).toString("hex");
  const authorities = { PYRO_BROKER_AUTHORITIES: join(internet.directory, "ca.pem") };
  const all = new Workspaces({ ...home.env, ...internet.env, ...authorities, TOKEN });
  const secret = ["--secret", "TOKEN", "--secret-for", "TOKEN=tokens.example"];
  const hosts = ["--allow-host", "packages.example", "--allow-host", "tokens.example"];
  const policy = ["--network-policy", "egress", ...hosts, ...secret];
  const workspace = await all.create([...policy, "--vcpu-count", "2", "debian:12-build"]);
  const lines = (await workspace.sh(INSTALL)).trim().split("\n");
  assert.deepEqual(lines, [SAID_BY_PIP, SAID_BY_NPM, "hello from packages.example", "refused"]);
  const asked = await internet.asked();
  const basic = `Basic ${Buffer.from(`user:${TOKEN}`).toString("base64")}`;
  for (const [path, authorization] of [
    ["/simple/", basic],
    ["/npm/", `Bearer ${TOKEN}`],
    ["/requests", TOKEN],
  ] as const) {
    const seen = asked.filter((one) => one.host === "tokens.example" && one.path.startsWith(path));
    assert.ok(seen.length > 0 && seen.every((one) => one.authorization === authorization), JSON.stringify(seen));
  }
  const { entries } = await all.ask<OutputOf<"network.log">>(["network", "log", workspace.id, "--limit", "1000"]);
  const denied = entries.filter(({ verdict }) => verdict === "denied").map(({ name }) => name);
  assert.deepEqual([...new Set(denied)], ["other.example"]);
  await workspace.delete();
});
