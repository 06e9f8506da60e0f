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
)

// inode is one file system object, with as many names as lead to it.
type inode struct {
	// kind is one of tar's types: TypeReg, TypeDir, TypeSymlink, TypeChar, TypeBlock, TypeFifo.
	kind     byte
	mode     int64
	uid, gid int
	mtime    time.Time
	target   string
	major    int64
	minor    int64
	xattrs   map[string]string

	// layer and entry say which entry of which layer holds the content of a regular file.
	layer, entry int
	size         int64

	children map[string]*name
	// written is the first path under which it stands in the result.
	written string
}

// name is an entry of a directory.
type name struct {
	node *inode
	// layer is the one that last unpacked something under this name: whiteouts of that layer do not concern it.
	layer int
}

// Tree is the result of the layers applied so far.
type Tree struct {
	root   *inode
	limits Limits
	// layer is the number of the layer that is being applied.
	layer    int
	entries  int
	unpacked int64
	content  int64
	metadata int64
	steps    int
	owners   map[int]struct{}
}

// NewTree makes an empty tree.
func NewTree(limits Limits) *Tree {
	root := &inode{kind: tar.TypeDir, mode: 0o755, mtime: time.Unix(0, 0), children: map[string]*name{}}
	return &Tree{root: root, limits: limits, layer: -1, owners: map[int]struct{}{}}
}

// RootMode is that of the root directory, which tar programs do not take from an entry.
func (t *Tree) RootMode() int64 { return t.root.mode }

// Newest is the latest time of anything that is still there.
func (t *Tree) Newest() time.Time { return newest(t.root) }

func newest(node *inode) time.Time {
	latest := node.mtime
	for _, child := range node.children {
		if at := newest(child.node); at.After(latest) {
			latest = at
		}
	}
	return latest
}

// Entries is how many entries were read from all layers.
func (t *Tree) Entries() int { return t.entries }

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
// but into the image. Missing directories are made with the time `made` unless that is nil; then the result is nil.
func (t *Tree) directory(entry string, path []string, made *time.Time) (*inode, error) {
	walked := []*inode{t.root}
	links := 0
	// The components still to go, the next one last.
	todo := reversed(nil, path)
	for len(todo) > 0 {
		if err := t.step(); err != nil {
			return nil, err
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
		next := here.children[part]
		if next == nil {
			if made == nil {
				return nil, nil
			}
			if err := t.count(len(part)); err != nil {
				return nil, err
			}
			next = &name{t.newDirectory(*made), t.layer}
			here.children[part] = next
		}
		switch {
		case next.node.isDir():
			walked = append(walked, next.node)
		case next.node.kind == tar.TypeSymlink:
			if links++; links > maxSymlinks {
				return nil, &MalformedError{entry, "lies behind a loop of symbolic links"}
			}
			if strings.HasPrefix(next.node.target, "/") {
				walked = walked[:1]
			}
			todo = reversed(todo, strings.Split(next.node.target, "/"))
		default:
			return nil, &MalformedError{entry, "lies below something that is no directory"}
		}
	}
	return walked[len(walked)-1], nil
}

func (t *Tree) newDirectory(mtime time.Time) *inode {
	return &inode{kind: tar.TypeDir, mode: 0o755, mtime: mtime, children: map[string]*name{}}
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

// count adds bytes of metadata.
func (t *Tree) count(bytes int) error {
	if t.metadata += int64(bytes); t.metadata > t.limits.MetadataBytes {
		return limitError(t.limits.MetadataBytes>>20, "MiB of names, links and extended attributes")
	}
	return nil
}

func reversed(onto, parts []string) []string {
	for n := len(parts) - 1; n >= 0; n-- {
		onto = append(onto, parts[n])
	}
	return onto
}
