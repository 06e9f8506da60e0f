// Which way out is named when the sandbox cannot be made, by what the host says of itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { confinementFix } from "../../../src/engine/confinement-trial.ts";

const OPEN = { clone: undefined, most: "96365", apparmor: undefined };
const DENIED = "bwrap: No permissions to create a new namespace";

test("each restriction of user namespaces has its own way out", () => {
  assert.match(confinementFix(DENIED, { ...OPEN, clone: "0" }), /kernel\.unprivileged_userns_clone=1/);
  assert.match(confinementFix(DENIED, { ...OPEN, most: "0" }), /user\.max_user_namespaces=/);
  const apparmor = confinementFix("bwrap: setting up uid map: Permission denied", { ...OPEN, apparmor: "1" });
  assert.match(apparmor, /AppArmor profile in docs\/host-requirements\.md/);
  assert.match(apparmor, /kernel\.apparmor_restrict_unprivileged_userns=0/);
});

test("what bubblewrap says comes before settings that are no obstacle", () => {
  assert.match(confinementFix("bwrap: Unknown option --disable-userns", { ...OPEN, apparmor: "1" }), /bubblewrap 0\.8/);
  assert.match(confinementFix("setpriv: setresuid failed: Invalid argument", OPEN), /as an ordinary user there/);
  assert.match(
    confinementFix("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", OPEN),
    /systempaths/,
  );
  assert.match(confinementFix(DENIED, { clone: "1", most: "96365", apparmor: "0" }), /container/);
});
