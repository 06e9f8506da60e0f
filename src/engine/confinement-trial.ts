// Can this user make the sandbox that VMMs run in: tried for real, and when it fails, which setting of the host forbids it.
import { readFile } from "node:fs/promises";
import { findProgram } from "../host/resources.ts";
import { runProgram } from "../host/spawn.ts";

const TRIAL_MS = 15_000;
/** One of the users that the launcher gives to microVMs where pyro is root (go/internal/vmm/registry.go). */
const VM_USER = 1_900_000_000;

/** Settings by which hosts keep ordinary users from making user namespaces; undefined where the kernel has not got one. */
export interface NamespaceSettings {
  /** kernel.unprivileged_userns_clone: Debian's and Arch's kernels. */
  readonly clone: string | undefined;
  /** user.max_user_namespaces: every kernel. */
  readonly most: string | undefined;
  /** kernel.apparmor_restrict_unprivileged_userns: Ubuntu since 23.10. */
  readonly apparmor: string | undefined;
}

export interface Trial {
  readonly works: boolean;
  /** What bubblewrap, or what starts it, said. */
  readonly said: string;
}

/** Makes the launcher's sandbox once (go/internal/confine/sandbox.go) around a program that does nothing. */
export async function tryConfinement(signal?: AbortSignal): Promise<Trial> {
  const program = (await findProgram("true")) ?? "/bin/true";
  const asRoot = process.getuid?.() === 0;
  const become = ["setpriv", `--reuid=${VM_USER}`, `--regid=${VM_USER}`, "--clear-groups", "--inh-caps=-all"];
  const command = [
    ...(asRoot ? [...become, "--bounding-set=-all", "--no-new-privs", "--"] : []),
    ...["bwrap", "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc"],
    ...["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"],
    ...["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "--", program],
  ];
  const [first = "", ...rest] = command;
  const result = await runProgram(first, rest, { deadlineMs: TRIAL_MS, aptPackage: "bubblewrap", signal });
  const said = result.timedOut ? `no answer within ${TRIAL_MS / 1000} s` : result.tail.trim();
  return { works: result.exitCode === 0, said: said === "" ? `status ${result.exitCode}` : said };
}

export async function readNamespaceSettings(): Promise<NamespaceSettings> {
  const read = async (path: string) =>
    await readFile(`/proc/sys/${path}`, "utf8").then(
      (text) => text.trim(),
      () => undefined,
    );
  return {
    clone: await read("kernel/unprivileged_userns_clone"),
    most: await read("user/max_user_namespaces"),
    apparmor: await read("kernel/apparmor_restrict_unprivileged_userns"),
  };
}

/** The way out of a sandbox that cannot be made: the first setting that explains it. */
export function confinementFix(said: string, settings: NamespaceSettings): string {
  const keep = "a file in /etc/sysctl.d keeps it";
  if (/unknown option/i.test(said)) return "install bubblewrap 0.8 or newer";
  if (/setresuid|setresgid|setgroups|initgroups/.test(said)) {
    return "this root is one of a user namespace (a rootless container), where microVMs can have no users of their own: run pyro as an ordinary user there";
  }
  // Only who sees all of /proc may mount one for a new pid namespace.
  if (/mount proc/i.test(said)) {
    return "parts of /proc are covered, as container engines do it: start the container without that (Docker: --security-opt systempaths=unconfined)";
  }
  if (settings.clone === "0") return `as root: sysctl -w kernel.unprivileged_userns_clone=1 (${keep})`;
  if (settings.most === "0") return `as root: sysctl -w user.max_user_namespaces=15000 (${keep})`;
  if (settings.apparmor === "1") {
    return `let bwrap make user namespaces, with the AppArmor profile in docs/host-requirements.md or, for every program, sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (${keep})`;
  }
  return "this user must be allowed to make user namespaces; in a container see docs/host-requirements.md";
}
