// What reaches a terminal of a stranger's words: no control, no turn of direction, no line of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { doctorView } from "../../../src/cli/views/doctor.ts";
import { envInspectView, envListView, envPruneView } from "../../../src/cli/views/environment.ts";
import { printable, printableLines } from "../../../src/text/printable.ts";

const HOSTILE = "a\u001b]0;owned\u0007\u009b2J\r\nforged: yes\u202eexe\u2066\u061c\u2028\u007f\u0000";

test("controls are shown as escapes, everything else as it is", () => {
  assert.equal(
    printable(HOSTILE),
    "a\\x1b]0;owned\\x07\\x9b2J\\r\\nforged: yes\\u202eexe\\u2066\\u061c\\u2028\\x7f\\x00",
  );
  for (const plain of ["", "a\tb", "Grüße, 世界 👩‍👩‍👧 عربي", "C:\\new", "x".repeat(100_000)]) {
    assert.equal(printable(plain), plain);
  }
  for (let code = 0; code < 0x10000; code++) {
    const character = String.fromCharCode(code);
    const isControl = code !== 9 && (code < 32 || (code >= 0x7f && code < 0xa0));
    if (isControl) assert.match(printable(character), /^\\[xnr]/, code.toString(16));
  }
});

test("lines stay lines, however they end", () => {
  assert.equal(printableLines("one\r\ntwo\r\r\n\u001b[31mthree\n"), "one\ntwo\n\\x1b[31mthree\n");
  assert.equal(printableLines("1%\r2%"), "1%\\r2%");
});

/** No character of a text for a person steers the terminal. */
function assertHarmless(text: string | Uint8Array | undefined): void {
  assert.match(String(text), /owned/);
  assert.doesNotMatch(String(text), /(?![\n\t])[\p{Cc}\p{Bidi_Control}]/u);
  assert.doesNotMatch(String(text), /^forged/m);
}

test("the views of environments and of the doctor show nothing of it raw", () => {
  const record = { environment: HOSTILE, digest: HOSTILE, installed: true, size_bytes: 1 };
  const inspected = {
    ...record,
    kind: "oci" as const,
    created_at: HOSTILE,
    in_use: false,
    platform: HOSTILE,
    env: { PATH: "/bin", [HOSTILE]: HOSTILE },
    packages: null,
    manifest_digest: HOSTILE,
    index_digest: HOSTILE,
    config_digest: null,
    layers: [],
  };
  assertHarmless(envInspectView(inspected).stdout);
  assertHarmless(envListView({ environments: [record], next_cursor: null }).stdout);
  const removed = [{ kind: "log" as const, name: HOSTILE, environments: [], size_bytes: 1 }];
  assertHarmless(envPruneView({ dry_run: false, removed, reclaimed_bytes: 1 }).stdout);
  const shown = doctorView({
    ok: false,
    driver: "qemu",
    acceleration: null,
    isolation: "none",
    checks: [
      { name: "probe", status: "failed", message: HOSTILE.replace("\r\n", ""), fix: HOSTILE.replace("\r\n", "") },
    ],
    probe: { ok: false, acceleration: null, boot_ms: null, message: HOSTILE.replace("\r\n", "") },
  } as unknown as Parameters<typeof doctorView>[0]);
  assertHarmless(shown.stdout);
});
