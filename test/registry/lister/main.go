// Command lister is all there is in some images of the tests: it prints who it is and every file below a directory, as
// JSON. It needs neither a shell nor a library.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type file struct {
	Path    string            `json:"path"`
	Mode    uint32            `json:"mode"`
	UID     uint32            `json:"uid"`
	GID     uint32            `json:"gid"`
	Mtime   int64             `json:"mtime"`
	Device  uint64            `json:"device"`
	Inode   uint64            `json:"inode"`
	Links   uint64            `json:"links"`
	Content string            `json:"content"`
	Xattrs  map[string]string `json:"xattrs"`
}

func main() {
	directory, _ := os.Getwd()
	root, _ := os.ReadDir("/")
	var names []string
	for _, entry := range root {
		names = append(names, entry.Name())
	}
	var files []file
	err := filepath.WalkDir(os.Args[1], func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		one, err := look(path)
		files = append(files, one)
		return err
	})
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"uid": os.Getuid(), "cwd": directory, "env": os.Environ(), "root": names, "files": files,
	})
}

func look(path string) (file, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return file{}, err
	}
	one := file{
		// Names that are no UTF-8 would be lost in JSON.
		Path: hexed(path), Mode: stat.Mode, UID: stat.Uid, GID: stat.Gid, Mtime: stat.Mtim.Sec, Device: stat.Rdev,
		Inode: stat.Ino, Links: stat.Nlink, Xattrs: map[string]string{},
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		content, err := os.ReadFile(path)
		if err != nil {
			return one, err
		}
		sum := sha256.Sum256(content)
		one.Content = hex.EncodeToString(sum[:])
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return one, err
		}
		one.Content = target
	}
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err != nil {
		return one, err
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, key, value)
		if err != nil {
			return one, err
		}
		one.Xattrs[key] = hex.EncodeToString(value[:n])
	}
	return one, nil
}

func hexed(path string) string { return hex.EncodeToString([]byte(path)) }
