// What snapshots take of the host's disk: where its file system shares blocks, little more than what differs; where it is
// nearly full, nothing, and a word of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findProgram } from "../../src/host/resources.ts";
import { inNamespace, told } from "./faulty.ts";
import { ownHome, sharedHome } from "./harness.ts";

const isRoot = process.getuid?.() === 0;
const NEEDS_ROOT = "mounting in a namespace takes root";

/** The home on a file system of its own, made by the lines in between. */
const homeOn = (mount: string) => `
  ${mount}
  chmod 700 "$PYRO_HOME"
  ln -s "$SHARED/environments" "$PYRO_HOME/environments"
  ln -s "$SHARED/cache" "$PYRO_HOME/cache"
  used() { df --output=used -k "$PYRO_HOME" | tail -1; }
  full() { head -c 64G /dev/zero >"$PYRO_HOME/ballast" 2>/dev/null || true; truncate -s "-$1" "$PYRO_HOME/ballast"; }
`;

test("ten snapshots on XFS take little more than what differs", { timeout: 400_000 }, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  if ((await findProgram("mkfs.xfs")) === undefined) return context.skip("mkfs.xfs is not there");
  await using home = await ownHome({ templates: true });
  const script = `
    truncate -s 3G "$PYRO_HOME.img"
    mkfs.xfs -q -m reflink=1 "$PYRO_HOME.img"
    ${homeOn('mount -o loop "$PYRO_HOME.img" "$PYRO_HOME" || { echo cannot; exit 0; }')}
    rm "$PYRO_HOME.img"
    id=$(pyro workspace create --id-only --quiet)
    pyro workspace exec "$id" -- sh -c 'head -c 100M /dev/urandom >big; sync'
    used
    for n in 1 2 3 4 5 6 7 8 9 10; do
      pyro workspace exec "$id" -- sh -c "head -c 1M /dev/urandom >small$n; sync"
      pyro workspace snapshot create "$id" "s$n" --quiet >/dev/null
    done
    used
    # Nearly full: what can be shared needs no room.
    full 320M
    pyro workspace snapshot create "$id" full --quiet
    pyro workspace reset "$id" --snapshot s3 --json >/dev/null
    rm "$PYRO_HOME/ballast"
    pyro workspace exec "$id" -- sh -c 'ls | wc -l'
    pyro workspace delete "$id" >/dev/null
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script, { SHARED: sharedHome() });
  assert.equal(status, 0, `${stdout}${stderr}`);
  if (stdout.toString() === "cannot\n") return context.skip("no file can be mounted as XFS here");
  const [before, after, kept, files] = stdout.toString().trimEnd().split("\n");
  const grown = (Number(after) - Number(before)) / 1024;
  // 10 MiB that differ, and what the file systems write about them.
  assert.ok(grown >= 10 && grown < 60, `ten snapshots of 100 MiB took ${grown} MiB`);
  assert.match(kept ?? "", /^full is kept/);
  assert.equal(files, "4");
});

test("a host without room refuses snapshots, resets and clones, and nothing is lost or left", {
  timeout: 400_000,
}, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using home = await ownHome({ templates: true });
  const script = `
    ${homeOn('mount -t tmpfs -o size=1500m,mode=0700 tmpfs "$PYRO_HOME"')}
    id=$(pyro workspace create --id-only --quiet)
    pyro workspace exec "$id" -- sh -c 'head -c 100M /dev/urandom >big; sync'
    pyro workspace snapshot create "$id" before --quiet >/dev/null
    full 300M
    cd "$PYRO_HOME/workspaces/$id"
    pyro workspace snapshot create "$id" a --json || true
    pyro workspace reset "$id" --snapshot before --json || true
    pyro workspace clone "$id" --json || true
    ls . snapshots | tr '\\n' ' '; echo
    pyro workspace exec "$id" -- sh -c 'ls'
    # What takes no room is done.
    pyro workspace stop "$id" --quiet; pyro workspace start "$id" --quiet
    rm "$PYRO_HOME/ballast"
    pyro workspace reset "$id" --snapshot before --quiet
    pyro workspace exec "$id" -- sh -c 'ls'
    pyro workspace list --json | grep -o ws_ | wc -l
    cd /
    pyro workspace delete "$id" >/dev/null
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script, { SHARED: sharedHome() });
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [snapshot = "", reset = "", clone = "", files, ...rest] = stdout.toString().trimEnd().split("\n");
  for (const refused of [snapshot, reset, clone]) {
    const { code, message } = told(refused);
    assert.equal(code, "HOST_DISK_FULL", refused);
    assert.match(message, /MiB are free below .* needs \d+ MiB/);
  }
  assert.equal(files, ".: commands disk.ext4 services shells snapshots workspace.json  snapshots: before ");
  const id = /ws_\w+/.exec(rest[1] ?? "")?.[0];
  assert.deepEqual(rest, ["big", `${id} is stopped`, `${id} is started`, `${id} is reset and started`, "big", "1"]);
});
