// This file owns getting at what a path was at the beginning, and at what it is now.
package changes

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openOld opens a file of the baseline: in the topmost layer that has it.
func (f *finder) openOld(path string) (int, *unix.Stat_t, error) {
	err := error(unix.ENOENT)
	for _, layer := range f.layers {
		var fd int
		var stat *unix.Stat_t
		if fd, stat, err = openFile(layer, below(path)); err == nil {
			return fd, stat, nil
		}
	}
	return -1, nil, fmt.Errorf("open %.300q of the baseline: %w", path, err)
}

func (f *finder) openNew(path string) (int, *unix.Stat_t, error) {
	return openFile(f.root, below(path))
}

// openFile opens a plain file, without waiting for whoever is at the other end of anything else.
func openFile(at int, path string) (int, *unix.Stat_t, error) {
	fd, err := open(at, path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return -1, nil, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.ENOENT
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, &stat, nil
}

func (f *finder) oldLink(path string) (string, error) {
	err := error(unix.ENOENT)
	for _, layer := range f.layers {
		var target string
		if target, err = readLink(layer, below(path)); err == nil {
			return target, nil
		}
	}
	return "", fmt.Errorf("read the link %.300q of the baseline: %w", path, err)
}

func (f *finder) newLink(path string) (string, error) { return readLink(f.root, below(path)) }

func readLink(at int, path string) (string, error) {
	fd, err := open(at, path, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// side is a path as it was, or is.
type side struct {
	// mode is 0 where there is nothing.
	mode    uint32
	size    uint64
	content []byte
	// tooLarge: the content was not read.
	tooLarge bool
}

// old reads what a path was.
func (f *finder) old(path string, mode uint32) (side, error) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		fd, stat, err := f.openOld(path)
		if err != nil {
			return side{}, err
		}
		return f.read(fd, stat, mode)
	case unix.S_IFLNK:
		target, err := f.oldLink(path)
		return side{mode: mode, size: uint64(len(target)), content: []byte(target)}, err
	}
	return side{mode: mode}, nil
}

// new reads what a path is; nothing where that has gone.
func (f *finder) now(path string, mode uint32) (side, error) {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		fd, stat, err := f.openNew(path)
		if isGone(err) || errors.Is(err, unix.ENXIO) {
			return side{}, nil
		}
		if err != nil {
			return side{}, err
		}
		return f.read(fd, stat, stat.Mode)
	case unix.S_IFLNK:
		target, err := f.newLink(path)
		if isGone(err) || errors.Is(err, unix.EINVAL) {
			return side{}, nil
		}
		return side{mode: mode, size: uint64(len(target)), content: []byte(target)}, err
	}
	return side{mode: mode}, nil
}

// read reads a file to its end, and closes it.
func (f *finder) read(fd int, stat *unix.Stat_t, mode uint32) (side, error) {
	defer unix.Close(fd)
	s := side{mode: mode, size: uint64(stat.Size)}
	if stat.Size > MostContent {
		s.tooLarge = true
		return s, nil
	}
	f.filesRead++
	// One more than it has says whether it grew meanwhile.
	s.content = make([]byte, stat.Size+1)
	n, err := readFull(fd, s.content)
	s.content = s.content[:n]
	s.size = uint64(n)
	return s, err
}
