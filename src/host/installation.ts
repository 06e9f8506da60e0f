// Where pyro's own files are, in a checkout and in an installed package alike, and which version they are of.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Installation {
  readonly root: string;
  readonly version: string;
  /** The command `pyro`. */
  readonly command: string;
  /** The program inside the guest. */
  readonly guestd: string;
  readonly launcher: string;
  /** The network of a microVM. */
  readonly netd: string;
  /** Fetches images from registries. */
  readonly image: string;
  /** Unpacks kernels. */
  readonly vmlinux: string;
}

let found: Installation | undefined;

/** The nearest directory above this module that holds pyro's package.json. */
export function installation(): Installation {
  if (found !== undefined) return found;
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, "package.json"))) {
    if (root === dirname(root)) throw new Error("pyro's package.json is missing above its own code");
    root = dirname(root);
  }
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  found = {
    root,
    version,
    command: join(root, "bin", "pyro"),
    guestd: join(root, "dist", "guest", "guestd"),
    launcher: join(root, "dist", "host", "pyro-launch"),
    netd: join(root, "dist", "host", "pyro-netd"),
    image: join(root, "dist", "host", "pyro-image"),
    vmlinux: join(root, "dist", "host", "pyro-vmlinux"),
  };
  return found;
}
