// This file owns the way template memory is read and named: which blocks count, and the digest over them.

package memory

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// BlockBytes is the unit of the digest and of sparse copies.
const BlockBytes = 64 << 10

var zeroBlock [BlockBytes]byte

// digest is SHA-256 over the blocks that are not all zero, each preceded by its offset (8 bytes, big endian). Holes
// and written zeros are the same thing to it, so it does not depend on how a file system keeps them.
type digest struct {
	sum  hash.Hash
	data uint64
}

func newDigest() *digest { return &digest{sum: sha256.New()} }

func (d *digest) block(offset int64, data []byte) {
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(offset))
	d.sum.Write(head[:])
	d.sum.Write(data)
	d.data += uint64(len(data))
}

func (d *digest) hex() string { return hex.EncodeToString(d.sum.Sum(nil)) }

// copySparse writes every block of the first size bytes of source that is not all zero to the same place in target,
// and returns the digest over them. Target must read as zeros so far.
func copySparse(target io.WriterAt, source *os.File, size int64) (*digest, error) {
	d := newDigest()
	buffer := make([]byte, BlockBytes)
	for offset := int64(0); offset < size; {
		data, err := nextData(source, offset)
		if err != nil {
			return nil, err
		}
		if data >= size {
			break
		}
		// Blocks are counted from the start of the file: data may begin in the middle of one.
		offset = data - data%BlockBytes
		block := buffer[:min(BlockBytes, size-offset)]
		if _, err := source.ReadAt(block, offset); err != nil {
			return nil, fmt.Errorf("read at %d: %w", offset, err)
		}
		if !bytes.Equal(block, zeroBlock[:len(block)]) {
			d.block(offset, block)
			if _, err := target.WriteAt(block, offset); err != nil {
				return nil, fmt.Errorf("write at %d: %w", offset, err)
			}
		}
		offset += int64(len(block))
	}
	return d, nil
}

// nextData is the place of the next byte at or after offset that is not in a hole; the largest number when there is
// none. A file system without holes has data everywhere.
func nextData(file *os.File, offset int64) (int64, error) {
	at, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
	switch {
	case err == nil:
		return at, nil
	case errors.Is(err, unix.ENXIO):
		return 1<<63 - 1, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return offset, nil
	}
	return 0, fmt.Errorf("seek to data at %d: %w", offset, err)
}
