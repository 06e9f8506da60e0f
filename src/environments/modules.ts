// Which kernel modules a microVM needs, and the order in which they can be loaded.

/** Modules that guestd asks for; one that is built into the kernel needs no loading. */
export const GUEST_MODULES = [
  "virtio_pci",
  "virtio_mmio",
  "virtio_blk",
  "virtio_console",
  "virtio_rng",
  "overlay",
  "squashfs",
  "tun",
  "vsock",
  "vmw_vsock_virtio_transport",
] as const;

/** The kernel's name of a module: file names may have dashes where names have underscores. */
export function moduleName(file: string): string {
  const base = file.slice(file.lastIndexOf("/") + 1);
  return base.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}

/**
 * Orders `wanted` modules and everything they depend on, dependencies first and otherwise as asked.
 * `dependencies` has every module of the kernel; `builtin` are those it holds already.
 * Errors: RangeError naming a module that is nowhere, or modules that depend on each other.
 */
export function loadOrder(
  wanted: readonly string[],
  dependencies: ReadonlyMap<string, readonly string[]>,
  builtin: ReadonlySet<string>,
): string[] {
  const order: string[] = [];
  const state = new Map<string, "open" | "done">();
  const visit = (name: string, neededBy: string): void => {
    if (builtin.has(name) || state.get(name) === "done") return;
    if (state.get(name) === "open") throw new RangeError(`kernel modules ${name} and ${neededBy} depend on each other`);
    const needs = dependencies.get(name);
    if (!needs) throw new RangeError(`kernel module ${name}, needed by ${neededBy}, is not in the package`);
    state.set(name, "open");
    for (const need of needs) visit(need, name);
    state.set(name, "done");
    order.push(name);
  };
  for (const name of wanted) visit(moduleName(name), "the guest");
  return order;
}

/**
 * Reads what a module depends on from its own `depends=` record. (modules.dep is not in Debian's package: depmod
 * makes it at installation, from the same facts.)
 */
export function dependenciesOf(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const key = Buffer.from("\0depends=");
  const at = bytes.indexOf(key);
  if (at < 0) return [];
  const end = bytes.indexOf(0, at + key.length);
  return bytes
    .toString("latin1", at + key.length, end < 0 ? undefined : end)
    .split(",")
    .filter(Boolean)
    .map(moduleName);
}

/** Names in a modules.builtin file. */
export function parseBuiltin(text: string): Set<string> {
  return new Set(text.split("\n").filter(Boolean).map(moduleName));
}
