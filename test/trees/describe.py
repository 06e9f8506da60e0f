# Describes every entry below a directory, in the same form as describe.ts does on the host: run in a guest, where only
# the smallest Python is, to compare the two. One argument: the directory. Prints one JSON object.
import hashlib
import os
import stat
import sys

BLOCK = 1 << 20
ZEROS = bytes(BLOCK)
TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def content(path, size):
    # Blocks of zeros count for nothing, so that a hole and written zeros are the same content; holes are not even read.
    total = hashlib.sha256()
    handle = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                at = max(at, os.lseek(handle, at, os.SEEK_DATA) // BLOCK * BLOCK)
            except OSError:
                break
            block = os.pread(handle, BLOCK, at)
            if not block:
                break
            if block != ZEROS[: len(block)]:
                total.update(b"%d:" % at)
                total.update(block)
            at += len(block)
    finally:
        os.close(handle)
    return total.hexdigest()


def describe(root):
    entries = {}
    groups = {}
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        for name in os.listdir(os.path.join(root, directory) if directory else root):
            path = directory + b"/" + name if directory else name
            full = os.path.join(root, path)
            found = os.lstat(full)
            kind = TYPES.get(stat.S_IFMT(found.st_mode), "unknown")
            entry = {
                "type": kind,
                "mode": found.st_mode & 0o7777,
                "mtime_ns": str(found.st_mtime_ns),
            }
            if kind == "file":
                entry["size"] = found.st_size
                entry["allocated"] = found.st_blocks * 512
                entry["content"] = content(full, found.st_size)
            if kind == "link":
                entry["target"] = os.readlink(full).hex()
            if kind == "directory":
                waiting.append(path)
            elif found.st_nlink > 1:
                groups.setdefault((found.st_dev, found.st_ino), []).append(path)
            entries[path.hex()] = entry
    for paths in groups.values():
        if len(paths) > 1:
            for path in paths:
                entries[path.hex()]["same_as"] = min(paths).hex()
    return entries


def told(value):
    # Hexadecimal digits, decimal ones and single words: nothing that JSON would have to escape.
    return '"%s"' % value if isinstance(value, str) else str(value)


def fields(entry):
    return ",".join('"%s":%s' % (key, told(value)) for key, value in entry.items())


described = describe(os.fsencode(sys.argv[1]))
print("{" + ",".join('"%s":{%s}' % (path, fields(entry)) for path, entry in described.items()) + "}")
