// This file owns applying one layer to the tree: entries, whiteouts, hard links.
package flatten

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	xattrRecord    = "SCHILY.xattr."
)

// Apply adds the next layer, an uncompressed tar, and reads it to its end.
// Errors: *MalformedError, *LimitError, those of the reader.
func (t *Tree) Apply(layer io.Reader) error {
	t.layer++
	counted := &limitedReader{layer, &t.unpacked, t.limits.UnpackedBytes}
	archive := tar.NewReader(counted)
	for entry := 0; ; entry++ {
		header, err := archive.Next()
		if err == io.EOF {
			// What follows the archive belongs to the layer's digest.
			_, err := io.Copy(io.Discard, counted)
			return err
		}
		if err != nil {
			return readError(err)
		}
		if t.entries++; t.entries > t.limits.Entries {
			return limitError(int64(t.limits.Entries), "files")
		}
		if err := t.apply(header, entry); err != nil {
			return err
		}
	}
}

func (t *Tree) apply(header *tar.Header, entry int) error {
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
		// Records of aufs, which mean nothing to anyone else.
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
	if err := t.count(len(base)); err != nil {
		return err
	}
	// A directory over a directory keeps what is in it. Anything else replaces what was there.
	if old := parent.children[base]; old != nil && old.node.isDir() && node.isDir() {
		node.children = old.node.children
	}
	parent.children[base] = &name{node, t.layer}
	return nil
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
	parent, err := t.directory(entry, parents, nil)
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
func (t *Tree) applyLink(header *tar.Header, parent *inode, base string) error {
	path, err := clean(header.Linkname)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return &MalformedError{header.Name, "is a hard link to a directory"}
	}
	directory, err := t.directory(header.Name, path[:len(path)-1], nil)
	if err != nil {
		return err
	}
	var target *name
	if directory != nil {
		target = directory.children[path[len(path)-1]]
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
	if err := t.count(len(base)); err != nil {
		return err
	}
	parent.children[base] = &name{node, t.layer}
	return nil
}

func (t *Tree) newInode(header *tar.Header, entry int) (*inode, error) {
	node := &inode{
		kind: header.Typeflag, mode: header.Mode & 0o7777, uid: header.Uid, gid: header.Gid, mtime: timeOf(header),
		layer: t.layer, entry: entry,
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		node.kind, node.size = tar.TypeReg, header.Size
		// A sparse file has more content than bytes in the layer.
		if t.content += header.Size; t.content > t.limits.UnpackedBytes {
			return nil, limitError(t.limits.UnpackedBytes>>20, "MiB unpacked")
		}
	case tar.TypeDir:
		node.children = map[string]*name{}
	case tar.TypeSymlink:
		if header.Linkname == "" || len(header.Linkname) > maxPathBytes || strings.IndexByte(header.Linkname, 0) >= 0 {
			return nil, &MalformedError{header.Name, "is a symbolic link to a path that Linux does not take"}
		}
		node.target, node.mode = header.Linkname, 0o777
	case tar.TypeChar, tar.TypeBlock:
		node.major, node.minor = header.Devmajor, header.Devminor
		if node.major < 0 || node.major > maxMajor || node.minor < 0 || node.minor > maxMinor {
			return nil, &MalformedError{header.Name, "is a device whose number Linux does not take"}
		}
	case tar.TypeFifo, tar.TypeLink:
	default:
		return nil, &MalformedError{header.Name, fmt.Sprintf("is of the unknown type %q", header.Typeflag)}
	}
	for _, id := range []int{node.uid, node.gid} {
		if id < 0 || id > maxID {
			return nil, &MalformedError{header.Name, "has an owner whose number Linux does not take"}
		}
		t.owners[id] = struct{}{}
	}
	if len(t.owners) > maxOwners {
		return nil, limitError(maxOwners, "different owners")
	}
	return node, t.takeXattrs(node, header)
}

// takeXattrs keeps the attributes that squashfs can hold and that mean the same in the guest. Access control lists of
// POSIX it cannot hold; overlayfs would take its own for instructions.
func (t *Tree) takeXattrs(node *inode, header *tar.Header) error {
	bytes := len(node.target)
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
		}
		node.xattrs[key] = value
		bytes += len(key) + len(value)
	}
	return t.count(bytes)
}

// timeOf gives a file's time in whole seconds of the range that squashfs has.
func timeOf(header *tar.Header) time.Time {
	return time.Unix(min(max(header.ModTime.Unix(), 0), maxTime), 0)
}

func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &MalformedError{"", "it is no whole tar archive: " + err.Error()}
	}
	return err
}

// limitedReader fails when more was read, by all that share `read`, than may be.
type limitedReader struct {
	from  io.Reader
	read  *int64
	limit int64
}

func (r *limitedReader) Read(into []byte) (int, error) {
	n, err := r.from.Read(into)
	if *r.read += int64(n); *r.read > r.limit {
		return 0, limitError(r.limit>>20, "MiB unpacked")
	}
	return n, err
}

func limitError(limit int64, of string) error {
	return &LimitError{fmt.Sprintf("%d %s, the most that is taken", limit, of)}
}
