// This file owns the file of a network's decisions: lines, bounded, in pieces whose names say where in the whole they
// begin, so that a reader goes on where it was.

package vmm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// A piece ends behind the line with which it has this many bytes; so many are kept.
	pieceBytes  = 2 << 20
	piecesKept  = 3
	maxLogLine  = 8 << 10
	pieceSuffix = ".log"
)

// netLog is the file that is written.
type netLog struct {
	directory string
	file      *os.File
	start     int64
	size      int64
}

// openNetLog goes on with the newest piece of a directory, which is made when it is missing.
func openNetLog(directory string) (*netLog, error) {
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	starts, err := pieces(directory)
	if err != nil {
		return nil, err
	}
	l := &netLog{directory: directory}
	if len(starts) > 0 {
		l.start = starts[len(starts)-1]
	}
	return l, l.open()
}

// pieces are the beginnings of those there are, in order.
func pieces(directory string) ([]int64, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var starts []int64
	for _, entry := range entries {
		name, found := strings.CutSuffix(entry.Name(), pieceSuffix)
		start, err := strconv.ParseInt(name, 10, 64)
		if found && err == nil && start >= 0 {
			starts = append(starts, start)
		}
	}
	sort.Slice(starts, func(a, b int) bool { return starts[a] < starts[b] })
	return starts, nil
}

func (l *netLog) path(start int64) string {
	return filepath.Join(l.directory, fmt.Sprintf("%016d%s", start, pieceSuffix))
}

func (l *netLog) open() error {
	file, err := os.OpenFile(l.path(l.start), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// take writes lines until in ends. What cannot be written is lost: a full disk stops no network.
func (l *netLog) take(in io.Reader) {
	scanner := bufio.NewReaderSize(in, maxLogLine)
	for {
		line, err := scanner.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			// Longer than any of netd's own.
			line = nil
			_, err = scanner.ReadSlice('\n')
		}
		if err != nil {
			return
		}
		if l != nil && len(line) > 0 {
			l.write(line)
		}
	}
}

func (l *netLog) write(line []byte) {
	if l.size >= pieceBytes {
		l.next()
	}
	if l.file == nil {
		return
	}
	count, _ := l.file.Write(line)
	l.size += int64(count)
}

// next begins another piece, and removes the oldest.
func (l *netLog) next() {
	l.close()
	l.start += l.size
	if l.open() != nil {
		l.file, l.size = nil, 0
		return
	}
	if starts, err := pieces(l.directory); err == nil {
		for len(starts) > piecesKept {
			_ = os.Remove(l.path(starts[0]))
			starts = starts[1:]
		}
	}
}

func (l *netLog) close() {
	if l != nil && l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
