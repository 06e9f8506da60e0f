// This file owns writing the tree as one tar.
package flatten

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"slices"
)

// link is a further name of something that stands in the tar already.
type link struct {
	path string
	node *inode
}

// Writer writes the tree. After NewWriter come the layers again, in order, and then Close.
type Writer struct {
	tar   *tar.Writer
	layer int
	// contents are the files whose content each layer holds, in the order they stand there.
	contents map[int][]*inode
	links    []link
}

// NewWriter writes everything that has no content: directories first, so that none is made up by whoever reads it.
func (t *Tree) NewWriter(to io.Writer) (*Writer, error) {
	w := &Writer{tar: tar.NewWriter(to), contents: map[int][]*inode{}}
	if err := w.directory("", t.root); err != nil {
		return nil, err
	}
	for _, files := range w.contents {
		slices.SortFunc(files, func(a, b *inode) int { return a.entry - b.entry })
	}
	return w, nil
}

func (w *Writer) directory(path string, directory *inode) error {
	for _, key := range slices.Sorted(maps.Keys(directory.children)) {
		node := directory.children[key].node
		at := path + key
		switch {
		case node.written != "":
			w.links = append(w.links, link{at, node})
			continue
		case whitedOut(node):
			continue
		}
		node.written = at
		if node.kind == tar.TypeReg && node.size > 0 {
			w.contents[node.layer] = append(w.contents[node.layer], node)
			continue
		}
		if err := w.tar.WriteHeader(headerOf(node)); err != nil {
			return fmt.Errorf("%.200q: %w", at, err)
		}
		if node.isDir() {
			if err := w.directory(at+"/", node); err != nil {
				return err
			}
		}
	}
	return nil
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
	archive := tar.NewReader(layer)
	for entry := 0; len(wanted) > 0; entry++ {
		if _, err := archive.Next(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return readError(err)
		}
		node := wanted[0]
		if entry != node.entry {
			continue
		}
		wanted = wanted[1:]
		if err := w.tar.WriteHeader(headerOf(node)); err != nil {
			return fmt.Errorf("%.200q: %w", node.written, err)
		}
		if _, err := io.CopyN(w.tar, archive, node.size); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return readError(err)
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
		header.Typeflag, header.Name, header.Linkname, header.Size = tar.TypeLink, link.path, link.node.written, 0
		// The link's attributes are those of its target.
		header.PAXRecords = nil
		if err := w.tar.WriteHeader(header); err != nil {
			return fmt.Errorf("%.200q: %w", link.path, err)
		}
	}
	return w.tar.Close()
}

func headerOf(node *inode) *tar.Header {
	header := &tar.Header{
		Typeflag: node.kind, Name: node.written, Linkname: node.target, Size: node.size, Mode: node.mode,
		Uid: node.uid, Gid: node.gid, ModTime: node.mtime, Devmajor: node.major, Devminor: node.minor,
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
