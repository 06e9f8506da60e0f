// This file owns the order of a pull: find the image, fetch its layers, read them for the tree, read them for the tar.
package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"pyro.dev/pyro/go/internal/flatten"
	"pyro.dev/pyro/go/internal/oci"
)

type work struct {
	reference, directory, unless string
	idle                         time.Duration
	out                          *report
}

type layerResult struct {
	Digest string `json:"digest"`
	Bytes  int64  `json:"size_bytes"`
}

type result struct {
	// Unchanged is set when it is the image that is there already; nothing else is known then.
	Unchanged      bool          `json:"unchanged"`
	ManifestDigest string        `json:"manifest_digest"`
	IndexDigest    *string       `json:"index_digest"`
	ConfigDigest   string        `json:"config_digest"`
	Platform       string        `json:"platform"`
	Env            []string      `json:"env"`
	Layers         []layerResult `json:"layers"`
	RootMode       int64         `json:"root_mode"`
	// Newest is the latest time of a file, seconds since 1970.
	Newest int64 `json:"newest"`
}

func (w *work) pull(ctx context.Context) error {
	reference, err := oci.Parse(w.reference)
	if err != nil {
		return err
	}
	w.out.begin("resolve", 0)
	image, err := oci.Resolve(ctx, reference, w.idle)
	if err != nil {
		return err
	}
	if image.Digest.String() == w.unless {
		return store(w.directory, result{Unchanged: true, ManifestDigest: w.unless})
	}
	blobs := filepath.Join(w.directory, "blobs")
	if err := os.Mkdir(blobs, 0o700); err != nil {
		return err
	}
	w.out.begin("fetch", image.Bytes())
	if err := image.Fetch(ctx, blobs, w.out.add); err != nil {
		return err
	}
	tree := flatten.NewTree(flatten.DefaultLimits)
	w.out.begin("read", 0)
	for n := range image.Layers {
		err := image.Layers[n].Read(blobs, func(layer io.Reader) error {
			return tree.Apply(w.counted(ctx, layer))
		})
		if err != nil {
			return err
		}
	}
	w.out.begin("write", 0)
	if err := w.write(ctx, tree, image, blobs); err != nil {
		return err
	}
	if err := os.RemoveAll(blobs); err != nil {
		return err
	}
	made := result{
		ManifestDigest: image.Digest.String(), ConfigDigest: image.Config.String(), Platform: oci.Platform,
		Env: image.Env, RootMode: tree.RootMode(), Newest: tree.Newest().Unix(),
	}
	if image.Index != nil {
		index := image.Index.String()
		made.IndexDigest = &index
	}
	for _, layer := range image.Layers {
		made.Layers = append(made.Layers, layerResult{layer.Digest.String(), layer.Size})
	}
	return store(w.directory, made)
}

func (w *work) write(ctx context.Context, tree *flatten.Tree, image *oci.Image, blobs string) error {
	file, err := os.OpenFile(filepath.Join(w.directory, "root.tar"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	buffered := bufio.NewWriterSize(file, 1<<20)
	writer, err := tree.NewWriter(buffered)
	if err != nil {
		return err
	}
	for n := range image.Layers {
		if !writer.Wants() {
			continue
		}
		err := image.Layers[n].Read(blobs, func(layer io.Reader) error {
			return writer.Layer(w.counted(ctx, layer))
		})
		if err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// counted tells of what is read, and stops when this program is told to.
func (w *work) counted(ctx context.Context, from io.Reader) io.Reader {
	return readerFunc(func(into []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := from.Read(into)
		w.out.add(n)
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(into []byte) (int, error) { return f(into) }
