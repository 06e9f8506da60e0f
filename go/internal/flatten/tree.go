// Package flatten makes one tree of the layers of an image, as extracting them one after the other would, without ever
// extracting anything: layers come from strangers, and their names, links and devices must not touch this host.
//
// It reads every layer twice. The first time the headers make a tree in memory, in which each inode knows where its
// content is; the second time the content of what is still there is copied into the resulting tar. In the tar every name
// stands once, directories before what is in them and hard links behind their targets.
//
// This file owns the tree: inodes, the names that lead to them, and the walk along a path.
package flatten

import (
	"archive/tar"
	"strings"
	"time"
	"unsafe"
)

// inode is one file system object, with as many names as lead to it.
type inode struct {
	// kind is one of tar's types: TypeReg, TypeDir, TypeSymlink, TypeChar, TypeBlock, TypeFifo.
	kind         byte
	mode         uint16
	uid, gid     uint32
	major, minor uint32
	// layer and entry say which entry of which layer holds the content of a regular file.
	layer, entry int32
	// mtime is in seconds since 1970.
	mtime    int64
	size     int64
	target   string
	xattrs   map[string]string
	children map[string]*name
	// parent and base are the first name under which it stands in the result; base is empty before it does.
	parent *inode
	base   string
}

// name is an entry of a directory.
type name struct {
	node *inode
	// layer is the one that last unpacked something under this name: whiteouts of that layer do not concern it.
	layer int32
}

// place is a directory and the bytes of the path that leads there, the last slash included.
type place struct {
	node  *inode
	bytes int
}

// What each costs in memory beside its bytes, at most: a small entry of a layer must not become a large tree unseen.
const (
	inodeBytes = int(unsafe.Sizeof(inode{}))
	// directoryBytes are those of a map with room for its first eight names.
	directoryBytes = 256
	// nameBytes are the name, its place in a map that has just grown, and what the writer keeps of it.
	nameBytes = 176
	// xattrsBytes are those of a map with room for its first eight attributes, xattrBytes those of each attribute.
	xattrsBytes = 336
	xattrBytes  = 96
)

// Tree is the result of the layers applied so far.
type Tree struct {
	root   *inode
	limits Limits
	// layer is the number of the layer that is being applied.
	layer    int32
	entries  int
	unpacked int64
	content  int64
	metadata int64
	steps    int
	owners   map[uint32]struct{}
}

// NewTree makes an empty tree.
func NewTree(limits Limits) *Tree {
	root := &inode{kind: tar.TypeDir, mode: 0o755, children: map[string]*name{}}
	return &Tree{root: root, limits: limits, layer: -1, owners: map[uint32]struct{}{}}
}

// RootMode is that of the root directory, which tar programs do not take from an entry.
func (t *Tree) RootMode() int64 { return int64(t.root.mode) }

// Newest is the latest time of anything that is still there.
func (t *Tree) Newest() time.Time { return time.Unix(newest(t.root), 0) }

func newest(node *inode) int64 {
	latest := node.mtime
	for _, child := range node.children {
		latest = max(latest, newest(child.node))
	}
	return latest
}

func (n *inode) isDir() bool { return n.kind == tar.TypeDir }

// clean turns the name of an entry into its components. As container engines do it, an absolute name begins at the
// root of the image; one that climbs above it is refused.
func clean(entry string) ([]string, error) {
	if strings.IndexByte(entry, 0) >= 0 {
		return nil, &MalformedError{entry, "has a zero byte"}
	}
	if len(entry) > maxPathBytes+1 {
		return nil, &MalformedError{entry, "is a longer path than Linux takes"}
	}
	var parts []string
	for part := range strings.SplitSeq(entry, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if len(parts) == 0 {
				return nil, &MalformedError{entry, "climbs out of the image"}
			}
			parts = parts[:len(parts)-1]
		case len(part) > maxNameBytes:
			return nil, &MalformedError{entry, "has a longer name than Linux takes"}
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// directory walks along path from the root, following links, and returns the directory at its end. Links lead nowhere
// but into the image. Missing directories are made with the time `made` unless that is nil; then there is no node in
// the result.
func (t *Tree) directory(entry string, path []string, made *int64) (place, error) {
	walked := []place{{node: t.root}}
	links := 0
	// The components still to go, the next one last.
	todo := reversed(nil, path)
	for len(todo) > 0 {
		if err := t.step(); err != nil {
			return place{}, err
		}
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		here := walked[len(walked)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(walked) > 1 {
				walked = walked[:len(walked)-1]
			}
			continue
		}
		var node *inode
		if next := here.node.children[part]; next != nil {
			node = next.node
		} else if made == nil {
			return place{}, nil
		} else {
			var err error
			if node, err = t.makeDirectory(entry, here, part, *made); err != nil {
				return place{}, err
			}
		}
		switch {
		case node.isDir():
			walked = append(walked, place{node, here.bytes + len(part) + 1})
		case node.kind == tar.TypeSymlink:
			if links++; links > maxSymlinks {
				return place{}, &MalformedError{entry, "lies behind a loop of symbolic links"}
			}
			if strings.HasPrefix(node.target, "/") {
				walked = walked[:1]
			}
			todo = reversed(todo, strings.Split(node.target, "/"))
		default:
			return place{}, &MalformedError{entry, "lies below something that is no directory"}
		}
	}
	return walked[len(walked)-1], nil
}

// makeDirectory makes one that no entry describes. It counts as if one had: two bytes of a path are enough to ask for it.
func (t *Tree) makeDirectory(entry string, in place, base string, mtime int64) (*inode, error) {
	if err := t.countEntry(); err != nil {
		return nil, err
	}
	if err := t.count(inodeBytes + directoryBytes); err != nil {
		return nil, err
	}
	node := &inode{kind: tar.TypeDir, mode: 0o755, mtime: mtime, children: map[string]*name{}}
	return node, t.put(entry, in, base, node)
}

// put gives a node a name.
func (t *Tree) put(entry string, in place, base string, node *inode) error {
	// Links let a short name in a layer stand for a path of any length.
	if in.bytes+len(base) > maxPathBytes {
		return &MalformedError{entry, "leads to a longer path than Linux takes"}
	}
	if err := t.count(nameBytes + len(base)); err != nil {
		return err
	}
	if old := in.node.children[base]; old != nil {
		old.node, old.layer = node, t.layer
		return nil
	}
	// What the reader of the archive returns can be a part of a header of 1 MiB, and would hold on to all of it.
	in.node.children[strings.Clone(base)] = &name{node, t.layer}
	return nil
}

// hideLower removes from a directory what lower layers put there, and says whether anything of this layer is left.
func (t *Tree) hideLower(directory *inode) (left bool, err error) {
	for key, child := range directory.children {
		if err := t.step(); err != nil {
			return false, err
		}
		keep := child.layer == t.layer
		if child.node.isDir() {
			inside, err := t.hideLower(child.node)
			if err != nil {
				return false, err
			}
			keep = keep || inside
		}
		if keep {
			left = true
		} else {
			delete(directory.children, key)
		}
	}
	return left, nil
}

func (t *Tree) step() error {
	if t.steps++; t.steps > t.limits.Steps {
		return &LimitError{"this host will follow: its paths or whiteouts have no end"}
	}
	return nil
}

// countEntry adds a file or directory.
func (t *Tree) countEntry() error {
	if t.entries++; t.entries > t.limits.Entries {
		return limitError(int64(t.limits.Entries), "files")
	}
	return nil
}

// count adds bytes of memory that the tree takes.
func (t *Tree) count(bytes int) error {
	if t.metadata += int64(bytes); t.metadata > t.limits.MetadataBytes {
		return limitError(t.limits.MetadataBytes>>20, "MiB of names, attributes and links to hold in memory")
	}
	return nil
}

func reversed(onto, parts []string) []string {
	for n := len(parts) - 1; n >= 0; n-- {
		onto = append(onto, parts[n])
	}
	return onto
}
