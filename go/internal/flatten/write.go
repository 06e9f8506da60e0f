// This file owns writing the tree as one tar.
package flatten

import (
	"archive/tar"
	"io"
	"maps"
	"slices"
	"time"
)

// link is a further name of something that stands in the tar already.
type link struct {
	parent *inode
	base   string
	node   *inode
}

// Writer writes the tree. After NewWriter come the layers again, in order, and then Close.
type Writer struct {
	tar   *archiveWriter
	layer int32
	// contents are the files whose content each layer holds, in the order they stand there.
	contents map[int32][]*inode
	links    []link
	// paths is how many more bytes of paths may be written.
	paths  int64
	limits Limits
}

// NewWriter writes everything that has no content: directories first, so that none is made up by whoever reads it.
// Errors of it and its methods: *MalformedError, *LimitError, those of the writer and of the layers' readers.
func (t *Tree) NewWriter(to io.Writer) (*Writer, error) {
	w := &Writer{tar: newArchive(to), contents: map[int32][]*inode{}, paths: t.limits.PathBytes, limits: t.limits}
	if err := w.directory(place{node: t.root}); err != nil {
		return nil, err
	}
	for _, files := range w.contents {
		slices.SortFunc(files, func(a, b *inode) int { return int(a.entry - b.entry) })
	}
	return w, nil
}

// directory writes what is in one. Paths are not held: the same long one may lead to every file.
func (w *Writer) directory(in place) error {
	for _, key := range slices.Sorted(maps.Keys(in.node.children)) {
		node := in.node.children[key].node
		bytes := in.bytes + len(key)
		switch {
		case node.base != "":
			if err := w.count(bytes + len(node.path())); err != nil {
				return err
			}
			w.links = append(w.links, link{in.node, key, node})
			continue
		case whitedOut(node):
			continue
		}
		if err := w.count(bytes); err != nil {
			return err
		}
		node.parent, node.base = in.node, key
		if node.kind == tar.TypeReg && node.size > 0 {
			w.contents[node.layer] = append(w.contents[node.layer], node)
			continue
		}
		if err := w.tar.header(headerOf(node)); err != nil {
			return err
		}
		if node.isDir() {
			if err := w.directory(place{node, bytes + 1}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) count(bytes int) error {
	if w.paths -= int64(bytes); w.paths < 0 {
		return limitError(w.limits.PathBytes>>20, "MiB of paths")
	}
	return nil
}

// path is the first one under which it stands in the result.
func (n *inode) path() string { return pathOf(n.parent, n.base) }

func pathOf(parent *inode, base string) string {
	bytes := len(base)
	for at := parent; at.parent != nil; at = at.parent {
		bytes += len(at.base) + 1
	}
	path := make([]byte, bytes)
	end := bytes - copy(path[bytes-len(base):], base)
	for at := parent; at.parent != nil; at = at.parent {
		end--
		path[end] = '/'
		end -= copy(path[end-len(at.base):], at.base)
	}
	return string(path)
}

// whitedOut is true of the device that overlayfs takes for "nothing is here": extracted onto overlayfs it would hide
// itself, and so it does in the guest.
func whitedOut(node *inode) bool {
	return node.kind == tar.TypeChar && node.major == 0 && node.minor == 0
}

// Layer copies from the next layer, the same bytes that were applied, the files that are still there.
func (w *Writer) Layer(layer io.Reader) error {
	wanted := w.contents[w.layer]
	w.layer++
	archive := openArchive(layer)
	for entry := int32(0); len(wanted) > 0; entry++ {
		_, err := archive.next()
		if err == io.EOF {
			err = archive.fault(io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		node := wanted[0]
		if entry != node.entry {
			continue
		}
		wanted = wanted[1:]
		if err := w.tar.header(headerOf(node)); err != nil {
			return err
		}
		_, err = io.CopyN(w.tar.tar, archive, node.size)
		if err == io.EOF {
			err = archive.fault(io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Wants says whether the next layer holds anything that is still there.
func (w *Writer) Wants() bool {
	if len(w.contents[w.layer]) > 0 {
		return true
	}
	w.layer++
	return false
}

// Close writes the hard links and the end of the archive.
func (w *Writer) Close() error {
	for _, link := range w.links {
		header := headerOf(link.node)
		header.Typeflag, header.Name = tar.TypeLink, pathOf(link.parent, link.base)
		header.Linkname, header.Size = link.node.path(), 0
		// The link's attributes are those of its target.
		header.PAXRecords = nil
		if err := w.tar.header(header); err != nil {
			return err
		}
	}
	return w.tar.tar.Close()
}

func headerOf(node *inode) *tar.Header {
	header := &tar.Header{
		Typeflag: node.kind, Name: node.path(), Linkname: node.target, Size: node.size, Mode: int64(node.mode),
		Uid: int(node.uid), Gid: int(node.gid), ModTime: time.Unix(node.mtime, 0),
		Devmajor: int64(node.major), Devminor: int64(node.minor),
	}
	if node.isDir() {
		header.Name += "/"
	}
	if len(node.xattrs) > 0 {
		header.PAXRecords = make(map[string]string, len(node.xattrs))
		for key, value := range node.xattrs {
			header.PAXRecords[xattrRecord+key] = value
		}
	}
	return header
}
