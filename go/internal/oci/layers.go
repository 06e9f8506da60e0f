// This file owns the layers as files: fetched side by side, unpacked while they are read.
package oci

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

const (
	fetchedAtOnce = 3
	// zstdWindow is that of the highest levels; it is what one layer can make this program hold in memory.
	zstdWindow = 128 << 20
)

// Fetch stores every layer in directory, checked. `count` hears of bytes, negative ones when an attempt was in vain; it
// is called from several goroutines.
func (i *Image) Fetch(ctx context.Context, directory string, count func(bytes int)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchedAtOnce)
	begun := map[v1.Hash]bool{}
	for _, layer := range i.Layers {
		if begun[layer.Digest] {
			continue
		}
		begun[layer.Digest] = true
		group.Go(func() error {
			file, err := os.OpenFile(layer.path(directory), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			counted := 0
			restart := func() error {
				count(-counted)
				counted = 0
				if err := file.Truncate(0); err != nil {
					return err
				}
				_, err := file.Seek(0, io.SeekStart)
				return err
			}
			add := func(bytes int) {
				counted += bytes
				count(bytes)
			}
			err = i.Registry.blob(ctx, "the layer "+layer.Digest.String(), layer.Descriptor, file, restart, add)
			if closing := file.Close(); err == nil {
				err = closing
			}
			return err
		})
	}
	return group.Wait()
}

// Bytes is how much there is to fetch.
func (i *Image) Bytes() int64 {
	var total int64
	seen := map[v1.Hash]bool{}
	for _, layer := range i.Layers {
		if !seen[layer.Digest] {
			total += layer.Size
		}
		seen[layer.Digest] = true
	}
	return total
}

func (l *Layer) path(directory string) string { return filepath.Join(directory, l.Digest.Hex) }

// Read calls `read` with the bytes of the layer unpacked. After it has read them all they are checked against the
// layer's digest; one that stops before the end is not checked.
func (l *Layer) Read(directory string, read func(io.Reader) error) error {
	file, err := os.Open(l.path(directory))
	if err != nil {
		return err
	}
	defer file.Close()
	unpacked, err := unpack(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return &Failure{Kind: Damaged, Message: "the layer " + l.Digest.String() + " cannot be unpacked", Cause: err}
	}
	defer unpacked.Close()
	checked := &checked{from: unpacked, sum: sha256.New()}
	if err := read(checked); err != nil {
		if checked.err != nil {
			return &Failure{Kind: Damaged, Message: "the layer " + l.Digest.String() + " cannot be unpacked", Cause: checked.err}
		}
		return err
	}
	if checked.ended && (l.DiffID.Algorithm != "sha256" || hex.EncodeToString(checked.sum.Sum(nil)) != l.DiffID.Hex) {
		return fail(Damaged, "the layer %s unpacked is not what the configuration says, %s", l.Digest, l.DiffID)
	}
	return nil
}

// unpack goes by the first bytes: the media types of some images are wrong.
func unpack(from *bufio.Reader) (io.ReadCloser, error) {
	start, _ := from.Peek(4)
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return gzip.NewReader(from)
	// A frame, or one that is to be skipped: some tools put an index first.
	case bytes.Equal(start, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(start) == 4 && start[0]&0xf0 == 0x50 && bytes.Equal(start[1:], []byte{0x2a, 0x4d, 0x18}):
		decoder, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(from), nil
}

type checked struct {
	from  io.Reader
	sum   hash.Hash
	ended bool
	err   error
}

func (c *checked) Read(into []byte) (int, error) {
	n, err := c.from.Read(into)
	c.sum.Write(into[:n])
	if err == io.EOF {
		c.ended = true
	} else if err != nil {
		c.err = err
	}
	return n, err
}

// Remove gives the space of a layer back.
func (l *Layer) Remove(directory string) { _ = os.Remove(l.path(directory)) }
