// This file owns applying one layer to the tree: entries, whiteouts, hard links.
package flatten

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	// aufsLinks is where aufs kept files with more than one name; the names were made hard links to what is in it.
	aufsLinks   = ".wh..wh.plnk"
	xattrRecord = "SCHILY.xattr."
)

// Apply adds the next layer, an uncompressed tar, and reads it to its end.
// Errors: *MalformedError, *UnsupportedError, *LimitError, those of the reader.
func (t *Tree) Apply(layer io.Reader) error {
	t.layer++
	counted := &limitedReader{layer, &t.unpacked, t.limits.UnpackedBytes}
	archive := openArchive(counted)
	for entry := int32(0); ; entry++ {
		header, err := archive.next()
		if err == io.EOF {
			// What follows the archive belongs to the layer's digest.
			_, err := io.Copy(io.Discard, counted)
			return err
		}
		if err != nil {
			return err
		}
		if err := t.countEntry(); err != nil {
			return err
		}
		if err := t.apply(header, entry); err != nil {
			return err
		}
	}
}

func (t *Tree) apply(header *tar.Header, entry int32) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	path, err := clean(header.Name)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return t.applyRoot(header)
	}
	for _, part := range path {
		// Aufs's own records. Files in its store of hard links are refused where a name links to one.
		if strings.HasPrefix(part, whiteoutMeta) && part != whiteoutOpaque {
			return nil
		}
	}
	parents, base := path[:len(path)-1], path[len(path)-1]
	if strings.HasPrefix(base, whiteout) {
		return t.applyWhiteout(header.Name, parents, base)
	}
	made := timeOf(header)
	parent, err := t.directory(header.Name, parents, &made)
	if err != nil {
		return err
	}
	if header.Typeflag == tar.TypeLink {
		return t.applyLink(header, parent, base)
	}
	node, err := t.newInode(header, entry)
	if err != nil {
		return err
	}
	// A directory over a directory keeps what is in it. Anything else replaces what was there.
	if old := parent.node.children[base]; old != nil && old.node.isDir() && node.isDir() {
		node.children = old.node.children
	}
	return t.put(header.Name, parent, base, node)
}

func (t *Tree) applyRoot(header *tar.Header) error {
	if header.Typeflag != tar.TypeDir {
		return &MalformedError{header.Name, "would replace the root directory"}
	}
	node, err := t.newInode(header, 0)
	if err != nil {
		return err
	}
	node.children = t.root.children
	t.root = node
	return nil
}

// applyWhiteout removes what lower layers have under a name, or in a whole directory. Where in the layer it stands
// does not matter: what the layer has itself stays.
func (t *Tree) applyWhiteout(entry string, parents []string, base string) error {
	in, err := t.directory(entry, parents, nil)
	parent := in.node
	var malformed *MalformedError
	if parent == nil && (err == nil || errors.As(err, &malformed)) {
		// There is nothing that could be removed.
		return nil
	}
	if err != nil {
		return err
	}
	if base == whiteoutOpaque {
		_, err := t.hideLower(parent)
		return err
	}
	hidden := strings.TrimPrefix(base, whiteout)
	if hidden == "" || hidden == "." || hidden == ".." {
		return &MalformedError{entry, "is a whiteout of no file"}
	}
	child := parent.children[hidden]
	if child == nil {
		return nil
	}
	keep := child.layer == t.layer
	if child.node.isDir() {
		left, err := t.hideLower(child.node)
		if err != nil {
			return err
		}
		keep = keep || left
	}
	if !keep {
		delete(parent.children, hidden)
	}
	return nil
}

// applyLink gives one more name to what stands under another at this moment, in whichever layer that is.
func (t *Tree) applyLink(header *tar.Header, parent place, base string) error {
	path, err := clean(header.Linkname)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return &MalformedError{header.Name, "is a hard link to a directory"}
	}
	if slices.Contains(path[:len(path)-1], aufsLinks) {
		return &UnsupportedError{header.Name, "is a hard link into " + aufsLinks + ", where aufs kept files of several names"}
	}
	directory, err := t.directory(header.Name, path[:len(path)-1], nil)
	if err != nil {
		return err
	}
	var target *name
	if directory.node != nil {
		target = directory.node.children[path[len(path)-1]]
	}
	if target == nil {
		return &MalformedError{header.Name, fmt.Sprintf("is a hard link to %.200q, which is not there", header.Linkname)}
	}
	node := target.node
	if node.isDir() {
		return &MalformedError{header.Name, "is a hard link to a directory"}
	}
	// Extraction sets the entry's attributes on the name, and so on the file.
	described, err := t.newInode(header, 0)
	if err != nil {
		return err
	}
	node.uid, node.gid = described.uid, described.gid
	if node.kind != tar.TypeSymlink {
		node.mode, node.mtime = described.mode, described.mtime
	}
	if described.xattrs != nil {
		node.xattrs = described.xattrs
	}
	return t.put(header.Name, parent, base, node)
}

func (t *Tree) newInode(header *tar.Header, entry int32) (*inode, error) {
	for _, id := range []int{header.Uid, header.Gid} {
		if id < 0 || id > maxID {
			return nil, &MalformedError{header.Name, "has an owner whose number Linux does not take"}
		}
		t.owners[uint32(id)] = struct{}{}
	}
	if len(t.owners) > maxOwners {
		return nil, limitError(maxOwners, "different owners")
	}
	node := &inode{
		kind: header.Typeflag, mode: uint16(header.Mode & 0o7777), uid: uint32(header.Uid), gid: uint32(header.Gid),
		mtime: timeOf(header), layer: t.layer, entry: entry,
	}
	bytes := inodeBytes
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		node.kind, node.size = tar.TypeReg, header.Size
		if header.Size < 0 {
			return nil, &MalformedError{header.Name, "has less than no bytes"}
		}
		// A sparse file has more content than bytes in the layer, and can say that it has as many as a number can.
		if header.Size > t.limits.UnpackedBytes-t.content {
			return nil, limitError(t.limits.UnpackedBytes>>20, "MiB unpacked")
		}
		t.content += header.Size
	case tar.TypeDir:
		node.children = map[string]*name{}
		bytes += directoryBytes
	case tar.TypeSymlink:
		if header.Linkname == "" || len(header.Linkname) > maxPathBytes || strings.IndexByte(header.Linkname, 0) >= 0 {
			return nil, &MalformedError{header.Name, "is a symbolic link to a path that Linux does not take"}
		}
		node.target, node.mode = strings.Clone(header.Linkname), 0o777
		bytes += len(node.target)
	case tar.TypeChar, tar.TypeBlock:
		if header.Devmajor < 0 || header.Devmajor > maxMajor || header.Devminor < 0 || header.Devminor > maxMinor {
			return nil, &MalformedError{header.Name, "is a device whose number Linux does not take"}
		}
		node.major, node.minor = uint32(header.Devmajor), uint32(header.Devminor)
	case tar.TypeFifo, tar.TypeLink:
	default:
		return nil, &MalformedError{header.Name, fmt.Sprintf("is of the unknown type %q", header.Typeflag)}
	}
	if err := t.count(bytes); err != nil {
		return nil, err
	}
	return node, t.takeXattrs(node, header)
}

// takeXattrs keeps the attributes that squashfs can hold and that mean the same in the guest. Access control lists of
// POSIX it cannot hold; overlayfs would take its own for instructions.
func (t *Tree) takeXattrs(node *inode, header *tar.Header) error {
	bytes := 0
	for record, value := range header.PAXRecords {
		key, is := strings.CutPrefix(record, xattrRecord)
		if !is || strings.HasPrefix(key, "trusted.overlay.") {
			continue
		}
		namespace, rest, _ := strings.Cut(key, ".")
		if rest == "" || (namespace != "user" && namespace != "trusted" && namespace != "security") {
			continue
		}
		if len(key) > maxNameBytes || len(value) > maxXattrBytes {
			return &MalformedError{header.Name, "has a larger extended attribute than Linux takes"}
		}
		if node.xattrs == nil {
			node.xattrs = map[string]string{}
			bytes += xattrsBytes
		}
		node.xattrs[strings.Clone(key)] = strings.Clone(value)
		bytes += xattrBytes + len(key) + len(value)
	}
	return t.count(bytes)
}

// timeOf gives a file's time in whole seconds of the range that squashfs has.
func timeOf(header *tar.Header) int64 { return min(max(header.ModTime.Unix(), 0), maxTime) }

func limitError(limit int64, of string) error {
	return &LimitError{fmt.Sprintf("%d %s, the most that is taken", limit, of)}
}
