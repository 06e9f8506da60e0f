// This file owns bringing a file or a directory out of the workspace: as a tar archive of the plainest kind, in which everything
// is called exportName, or is below that.
package files

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	// exportName is what is exported in its archive, whatever it is called.
	exportName = "artifact"
	// exportPiece is how much of the archive is handed on at once, bytes.
	exportPiece = 256 << 10
	// mostSkipped is how much of what was left out is named.
	mostSkipped = 100
	zeroBytes   = 64 << 10
)

// Limits of an export.
type Limits struct {
	// Bytes of all files together, holes included, and Entries.
	Bytes, Entries uint64
}

// Skipped is what was left out, and why.
type Skipped struct{ Path, Why string }

// Exported says what an archive holds.
type Exported struct {
	Type           Type
	Entries, Bytes uint64
	// Skipped is the first of what was left out, SkippedCount how much that is.
	Skipped      []Skipped
	SkippedCount uint64
}

// OpenRoot returns the workspace of a root to read only: nothing can be changed by it.
func OpenRoot(root string) (*Tree, error) { return Open(root, nil) }

// Export hands the archive to emit, which keeps what it is given. A link at the path itself is not followed. Errors: *Refusal,
// those of emit, that of ctx.
func (t *Tree) Export(ctx context.Context, given []byte, limits Limits, emit func([]byte) error) (Exported, error) {
	name, err := relative(given)
	if err != nil {
		return Exported{}, err
	}
	top, err := t.top()
	if err != nil {
		return Exported{}, err
	}
	defer unix.Close(top)
	above, base := split(name)
	directory := top
	if name == "" {
		base = "."
	} else if directory, err = follow(top, above, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return Exported{}, obstacle(err, name)
	} else {
		defer unix.Close(directory)
	}
	out := &pieces{emit: emit}
	e := &exporter{ctx: ctx, limits: limits, archive: tar.NewWriter(out), links: map[[2]uint64]string{}}
	var stat unix.Stat_t
	if err := unix.Fstatat(directory, base, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Exported{}, obstacle(err, name)
	}
	if e.told.Type = typeOf(stat.Mode); e.told.Type == Other {
		return Exported{}, refuse(WrongKind, name, "%s is a fifo, a socket or a device", shown(name))
	}
	if err := e.entry(directory, base, name, exportName, 0); err != nil {
		return Exported{}, failedExport(err, name)
	}
	if e.told.Entries == 0 {
		return Exported{}, refuse(Missing, name, "there is no %s any more", shown(name))
	}
	if err := errors.Join(e.archive.Close(), out.flush()); err != nil {
		return Exported{}, failedExport(err, name)
	}
	return e.told, nil
}

// failedExport leaves what is no system call's failure as it is.
func failedExport(err error, name string) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return obstacle(err, name)
	}
	return err
}

type exporter struct {
	ctx     context.Context
	limits  Limits
	archive *tar.Writer
	told    Exported
	// links are the files of several names, by device and inode.
	links map[[2]uint64]string
}

func (e *exporter) skip(path, why string) {
	e.told.SkippedCount++
	if len(e.told.Skipped) < mostSkipped {
		e.told.Skipped = append(e.told.Skipped, Skipped{path, why})
	}
}

// entry adds what is at a name in a directory; path is for people, called its name in the archive.
func (e *exporter) entry(directory int, name, path, called string, depth int) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	var stat unix.Stat_t
	err := unix.Fstatat(directory, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	header := &tar.Header{
		Format: tar.FormatPAX, Name: called, Mode: int64(stat.Mode & permissions), ModTime: time.Unix(stat.Mtim.Sec, stat.Mtim.Nsec),
	}
	switch typeOf(stat.Mode) {
	case Directory:
		header.Typeflag, header.Name = tar.TypeDir, called+"/"
		return e.directory(directory, name, path, called, header, depth)
	case Symlink:
		header.Typeflag = tar.TypeSymlink
		if header.Linkname, err = readLink(directory, name); err != nil {
			return nil
		}
		return e.header(path, header)
	case File:
		return e.file(directory, name, path, header, &stat)
	}
	e.skip(path, "is a fifo, a socket or a device")
	return nil
}

func (e *exporter) header(path string, header *tar.Header) error {
	e.told.Entries++
	e.told.Bytes += uint64(header.Size)
	if e.told.Entries > e.limits.Entries {
		return refuse(Limit, path, "there are more than %d files, directories and links", e.limits.Entries)
	}
	if e.told.Bytes > e.limits.Bytes {
		return refuse(Limit, path, "the files have more than %d bytes together", e.limits.Bytes)
	}
	return e.archive.WriteHeader(header)
}

func (e *exporter) directory(at int, name, path, called string, header *tar.Header, depth int) error {
	if err := e.header(path, header); err != nil {
		return err
	}
	if depth >= deepest {
		return refuse(Limit, path, "directories are nested deeper than %d", deepest)
	}
	fd, err := open(at, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.EXDEV) {
		e.skip(path, "another file system is mounted there: what is in it was left out")
		return nil
	}
	if err != nil {
		// Gone meanwhile, or something else by now.
		return nil
	}
	defer unix.Close(fd)
	var names []string
	err = listing.Each(fd, func(name string, _ bool) error {
		names = append(names, name)
		if uint64(len(names)) > e.limits.Entries {
			return refuse(Limit, path, "there are more than %d files, directories and links", e.limits.Entries)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := e.entry(fd, name, join(path, name), called+"/"+name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// file adds a file: the first of its names with its content, the others as links to that.
func (e *exporter) file(at int, name, path string, header *tar.Header, stat *unix.Stat_t) error {
	key := [2]uint64{stat.Dev, stat.Ino}
	if first, known := e.links[key]; known && stat.Nlink > 1 {
		header.Typeflag, header.Linkname = tar.TypeLink, first
		return e.header(path, header)
	}
	fd, err := open(at, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, stat); err != nil || typeOf(stat.Mode) != File {
		return nil
	}
	header.Typeflag, header.Size = tar.TypeReg, stat.Size
	if err := e.header(path, header); err != nil {
		return err
	}
	if stat.Nlink > 1 {
		e.links[[2]uint64{stat.Dev, stat.Ino}] = header.Name
	}
	buffer := make([]byte, zeroBytes)
	for sent := int64(0); sent < stat.Size; {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		want := buffer[:min(int64(len(buffer)), stat.Size-sent)]
		n, err := readAt(fd, want, uint64(sent))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n < len(want) {
			// Its size was said.
			e.skip(path, "became shorter while it was read: zeros are in the place of its end")
			return e.zeros(stat.Size-sent, want[:n])
		}
		if _, err := e.archive.Write(want); err != nil {
			return err
		}
		sent += int64(n)
	}
	return nil
}

// zeros writes what is left of a file, filled up to its size.
func (e *exporter) zeros(left int64, rest []byte) error {
	if _, err := e.archive.Write(rest); err != nil {
		return err
	}
	left -= int64(len(rest))
	zero := make([]byte, zeroBytes)
	for ; left > 0; left -= int64(len(zero)) {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		if _, err := e.archive.Write(zero[:min(left, int64(len(zero)))]); err != nil {
			return err
		}
	}
	return nil
}

// pieces gathers the archive's bytes.
type pieces struct {
	emit func([]byte) error
	held []byte
}

var _ io.Writer = (*pieces)(nil)

func (p *pieces) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		if p.held == nil {
			p.held = make([]byte, 0, exportPiece)
		}
		n := min(len(rest), exportPiece-len(p.held))
		p.held = append(p.held, rest[:n]...)
		rest = rest[n:]
		if len(p.held) == exportPiece {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(data), nil
}

func (p *pieces) flush() error {
	if len(p.held) == 0 {
		return nil
	}
	piece := p.held
	p.held = nil
	return p.emit(piece)
}
