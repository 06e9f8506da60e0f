// This file owns reading a part of a file: by bytes, or by lines.
package files

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// ReadLimit is how much is read at once, bytes.
	ReadLimit = 1 << 20
	// scanLimit is in how much of a file lines are counted, bytes.
	scanLimit = 512 << 20
	scanBytes = 256 << 10
)

// Window says which part of a file is wanted.
type Window struct {
	Offset uint64
	// Max is the most bytes.
	Max uint32
	// FirstLine and LastLine, from 1, instead of the offset; LastLine 0 is the last.
	FirstLine, LastLine uint64
}

// Part is a part of a file.
type Part struct {
	Info    Info
	Content []byte
	// Offset is where it begins.
	Offset uint64
	// More of what was wanted follows.
	More bool
}

// Read reads a part of a file. Errors: *Refusal.
func (t *Tree) Read(given []byte, window Window) (Part, error) {
	name, err := relative(given)
	if err != nil {
		return Part{}, err
	}
	if window.Max > ReadLimit {
		return Part{}, refuse(Limit, name, "at most %d bytes are read at once", ReadLimit)
	}
	top, err := t.top()
	if err != nil {
		return Part{}, err
	}
	defer unix.Close(top)
	// A fifo must not be waited for.
	fd, err := follow(top, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, unix.ENXIO) {
		return Part{}, needFile(name, unix.S_IFSOCK)
	}
	if err != nil {
		return Part{}, obstacle(err, name)
	}
	defer unix.Close(fd)
	return partOf(fd, name, window)
}

// partOf reads a part of what is open.
func partOf(fd int, name string, window Window) (Part, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return Part{}, obstacle(err, name)
	}
	if err := needFile(name, stat.Mode); err != nil {
		return Part{}, err
	}
	part := Part{Info: infoOf(name, &stat), Offset: window.Offset}
	if window.FirstLine != 0 || window.LastLine != 0 {
		return part, part.lines(fd, window)
	}
	if window.Offset > part.Info.Size {
		return part, refuse(Invalid, name, "the offset %d is beyond the end: %s has %d bytes", window.Offset, shown(name), part.Info.Size)
	}
	part.Content = make([]byte, min(uint64(window.Max), part.Info.Size-window.Offset))
	n, err := readAt(fd, part.Content, window.Offset)
	if err != nil {
		return part, obstacle(err, name)
	}
	part.Content = part.Content[:n]
	part.More = part.Offset+uint64(n) < part.Info.Size
	return part, nil
}

// lines reads the lines of the window.
func (p *Part) lines(fd int, window Window) error {
	name := p.Info.Path
	first := max(window.FirstLine, 1)
	if window.LastLine != 0 && window.LastLine < first {
		return refuse(Invalid, name, "the lines %d to %d are none", first, window.LastLine)
	}
	buffer := make([]byte, scanBytes)
	line, at := uint64(1), uint64(0)
	wanted := func() bool { return line >= first }
	// unended: what was read last is no whole line.
	begun, unended := false, false
	for {
		n, err := readAt(fd, buffer, at)
		if err != nil {
			return obstacle(err, name)
		}
		rest := buffer[:n]
		for len(rest) > 0 {
			if !wanted() {
				end := bytes.IndexByte(rest, '\n')
				if unended = end < 0; unended {
					at += uint64(len(rest))
					break
				}
				rest = rest[end+1:]
				at += uint64(end + 1)
				line++
				continue
			}
			if !begun {
				begun, p.Offset = true, at
			}
			end := len(rest)
			if newline := bytes.IndexByte(rest, '\n'); newline >= 0 {
				end = newline + 1
			}
			room := int(window.Max) - len(p.Content)
			if end > room {
				p.Content = append(p.Content, rest[:room]...)
				p.More = true
				return nil
			}
			p.Content = append(p.Content, rest[:end]...)
			at += uint64(end)
			if rest[end-1] == '\n' {
				if line == window.LastLine {
					return nil
				}
				line++
			}
			rest = rest[end:]
		}
		if n == 0 {
			break
		}
		if !begun && at > scanLimit {
			return refuse(Limit, name, "lines are counted in the first %d bytes of a file; read by offset", scanLimit)
		}
	}
	if !begun && first > 1 {
		count := line - 1
		if unended {
			count++
		}
		return refuse(Invalid, name, "%s has %d lines; there is no line %d", shown(name), count, first)
	}
	return nil
}

// readAt fills the buffer from an offset on, unless the file ends before that.
func readAt(fd int, buffer []byte, offset uint64) (int, error) {
	for read := 0; ; {
		if read == len(buffer) {
			return read, nil
		}
		n, err := unix.Pread(fd, buffer[read:], int64(offset)+int64(read))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return read, err
		}
		if n == 0 {
			return read, nil
		}
		read += n
	}
}

// readAll reads a whole file that has at most `most` bytes.
func readAll(fd int, name string, stat *unix.Stat_t, most int64) ([]byte, error) {
	if stat.Size > most {
		return nil, refuse(Limit, name, "%s has %d bytes; files of at most %d are changed so", shown(name), stat.Size, most)
	}
	content := make([]byte, stat.Size)
	n, err := readAt(fd, content, 0)
	if err != nil {
		return nil, obstacle(err, name)
	}
	return content[:n], nil
}
