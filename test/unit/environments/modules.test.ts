// The order in which kernel modules are loaded.
import assert from "node:assert/strict";
import { test } from "node:test";
import { dependenciesOf, loadOrder, moduleName, parseBuiltin } from "../../../src/environments/modules.ts";

const DEPENDENCIES = new Map([
  ["virtio_pci", ["virtio", "virtio_ring", "virtio_pci_modern_dev"]],
  ["virtio", ["virtio_ring"]],
  ["virtio_ring", []],
  ["virtio_pci_modern_dev", []],
  ["virtio_rng", ["virtio"]],
  ["overlay", []],
]);

test("what a module needs comes before it, each once", () => {
  assert.deepEqual(loadOrder(["virtio-pci", "virtio_rng", "overlay"], DEPENDENCIES, new Set()), [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_rng",
    "overlay",
  ]);
});

test("what the kernel holds already is left out", () => {
  const builtin = parseBuiltin(
    "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_ring.ko\nkernel/fs/ext4/ext4.ko\n",
  );
  assert.deepEqual(loadOrder(["virtio_rng", "ext4"], DEPENDENCIES, builtin), ["virtio_rng"]);
});

test("a module that is nowhere, or a circle, is named", () => {
  assert.throws(() => loadOrder(["squashfs"], DEPENDENCIES, new Set()), /squashfs.*is not in the package/);
  const circle = new Map([
    ["a", ["b"]],
    ["b", ["a"]],
  ]);
  assert.throws(() => loadOrder(["a"], circle, new Set()), /depend on each other/);
});

test("file names become the kernel's names", () => {
  assert.equal(moduleName("kernel/drivers/char/hw_random/virtio-rng.ko"), "virtio_rng");
  assert.equal(moduleName("overlay.ko.xz"), "overlay");
});

test("a module's own record of what it needs", () => {
  const module = (text: string) => Buffer.concat([Buffer.from([0x7f, 0x45, 0, 1]), Buffer.from(text, "latin1")]);
  assert.deepEqual(dependenciesOf(module("\0license=GPL\0depends=virtio,virtio-ring\0retpoline=Y\0")), [
    "virtio",
    "virtio_ring",
  ]);
  assert.deepEqual(dependenciesOf(module("\0depends=\0name=overlay\0")), []);
  assert.deepEqual(dependenciesOf(module("\0softdepends=x\0")), []);
});
