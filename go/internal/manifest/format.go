// Package manifest writes down what a tree holds, for later comparisons: of each entry its path, type, inode, times, size
// and mode. It never opens a file.
//
// This file owns the format. A manifest begins with eight bytes, the last two of which are its version; then come the
// entries, in no order but that a directory stands before what is in it; then two zero bytes in place of lengths, the
// number of entries (8 bytes) and a CRC-32C (4 bytes) of everything before it. Fixed numbers are little endian. An entry
// is
//
//	length of the path that it shares with the entry before, varint
//	length of the rest of the path plus one, varint, and the rest
//	mode with the type bits as stat has them, varint
//	inode, size, varints; ctime and mtime, varints with sign of nanoseconds since 1970
package manifest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

const (
	magic   = "pyroMF"
	version = 1
	// maxPathBytes is what the reader takes for a path; deep trees have longer ones than a system call takes.
	maxPathBytes = 1 << 20
)

// ErrFormat is returned for what is no whole manifest of a version that is known.
var ErrFormat = errors.New("manifest: not a whole manifest of a known version")

// Entry is what is written down of one file, directory or link.
type Entry struct {
	// Path relative to the tree's top, bytes.
	Path string
	// Mode has the type bits as stat has them.
	Mode uint32
	// Inode is 0 for directories: overlayfs does not keep their numbers.
	Inode uint64
	Size  uint64
	// Nanoseconds since 1970.
	Ctime, Mtime int64
}

// Writer writes a manifest. The first error sticks.
type Writer struct {
	out   *bufio.Writer
	sum   hash.Hash32
	last  string
	count uint64
	bytes []byte
	err   error
}

// NewWriter begins a manifest.
func NewWriter(to io.Writer) *Writer {
	w := &Writer{out: bufio.NewWriterSize(to, 64<<10), sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	w.emit(append([]byte(magic), version, 0))
	return w
}

func (w *Writer) emit(bytes []byte) {
	if w.err == nil {
		w.sum.Write(bytes)
		_, w.err = w.out.Write(bytes)
	}
}

// Add writes an entry.
func (w *Writer) Add(e *Entry) error {
	shared := 0
	for shared < len(w.last) && shared < len(e.Path) && w.last[shared] == e.Path[shared] {
		shared++
	}
	b := binary.AppendUvarint(w.bytes[:0], uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(e.Path)-shared)+1)
	b = append(b, e.Path[shared:]...)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, e.Inode)
	b = binary.AppendUvarint(b, e.Size)
	b = binary.AppendVarint(b, e.Ctime)
	b = binary.AppendVarint(b, e.Mtime)
	w.bytes, w.last = b, e.Path
	w.count++
	w.emit(b)
	return w.err
}

// Close ends the manifest and tells how many entries it has.
func (w *Writer) Close() (uint64, error) {
	w.emit(binary.LittleEndian.AppendUint64([]byte{0, 0}, w.count))
	if w.err == nil {
		_, w.err = w.out.Write(binary.LittleEndian.AppendUint32(nil, w.sum.Sum32()))
	}
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.count, w.err
}

// Reader reads a manifest.
type Reader struct {
	in    *bufio.Reader
	sum   hash.Hash32
	path  []byte
	count uint64
	ended bool
}

// NewReader reads the beginning. Errors: ErrFormat, those of reading.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(from, 64<<10), sum: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	head := make([]byte, len(magic)+2)
	if err := r.full(head); err != nil {
		return nil, err
	}
	if string(head[:len(magic)]) != magic || binary.LittleEndian.Uint16(head[len(magic):]) != version {
		return nil, ErrFormat
	}
	return r, nil
}

func (r *Reader) full(into []byte) error {
	if _, err := io.ReadFull(r.in, into); err != nil {
		return whole(err)
	}
	r.sum.Write(into)
	return nil
}

// ReadByte is for varints.
func (r *Reader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.sum.Write([]byte{b})
	}
	return b, err
}

func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrFormat)
	}
	return err
}

// Next returns the next entry, io.EOF behind the last: only then everything before was what was written. Errors: ErrFormat,
// those of reading.
func (r *Reader) Next() (*Entry, error) {
	if r.ended {
		return nil, io.EOF
	}
	shared, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, r.number(err)
	}
	rest, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, r.number(err)
	}
	if rest == 0 {
		return nil, r.end()
	}
	rest--
	if shared > uint64(len(r.path)) || rest > maxPathBytes-shared {
		return nil, ErrFormat
	}
	r.path = append(r.path[:shared], make([]byte, rest)...)
	if err := r.full(r.path[shared:]); err != nil {
		return nil, err
	}
	e := &Entry{Path: string(r.path)}
	var mode uint64
	for _, number := range []*uint64{&mode, &e.Inode, &e.Size} {
		if *number, err = binary.ReadUvarint(r); err != nil {
			return nil, r.number(err)
		}
	}
	for _, number := range []*int64{&e.Ctime, &e.Mtime} {
		if *number, err = binary.ReadVarint(r); err != nil {
			return nil, r.number(err)
		}
	}
	e.Mode = uint32(mode)
	r.count++
	return e, nil
}

// number tells a number that is too long from one that is cut.
func (r *Reader) number(err error) error {
	if whole := whole(err); errors.Is(whole, ErrFormat) {
		return whole
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

func (r *Reader) end() error {
	count := make([]byte, 8)
	if err := r.full(count); err != nil {
		return err
	}
	sum := r.sum.Sum32()
	check := make([]byte, 4)
	if err := r.full(check); err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(count) != r.count || binary.LittleEndian.Uint32(check) != sum {
		return ErrFormat
	}
	r.ended = true
	return io.EOF
}
