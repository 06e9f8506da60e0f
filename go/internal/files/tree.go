// Package files reads and changes single files of the workspace. Nothing it does leaves /workspace: the kernel resolves every
// path beneath it, and symbolic links are followed as long as they stay there.
//
// This file owns the way from a path to what is there.
package files

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/transfer"
)

const (
	workspace = "workspace"
	// mostLinks is how many symbolic links a path may lead through, as for the kernel.
	mostLinks = 40
)

// Tree is the workspace of one root. Its methods may be called at the same time.
type Tree struct {
	root int
	// places puts what is made into the workspace, and keeps changes apart.
	places *transfer.Table
	once   once
}

// Open returns the workspace of a root; places puts things into the same one.
func Open(root string, places *transfer.Table) (*Tree, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return &Tree{root: fd, places: places, once: once{outcomes: map[string]*outcome{}}}, nil
}

// Close lets go of the root.
func (t *Tree) Close() { unix.Close(t.root) }

// top opens the workspace's directory.
func (t *Tree) top() (int, error) {
	fd, err := open(t.root, workspace, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return -1, obstacle(err, "")
	}
	return fd, nil
}

// relative returns a request's path as one relative to the workspace, "" for the workspace itself, without "." and "..".
func relative(given []byte) (string, error) {
	name := string(given)
	if strings.IndexByte(name, 0) >= 0 {
		return "", refuse(Invalid, "", "a path has no zero byte")
	}
	if !strings.HasPrefix(name, "/") {
		name = "/" + workspace + "/" + name
	}
	clean, ok := below(path.Clean(name))
	if !ok {
		return "", &Refusal{Kind: Outside, Why: fmt.Sprintf("%.300q is not below /%s", string(given), workspace)}
	}
	return clean, nil
}

// Relative is a request's path as one relative to the workspace, "" for the workspace itself. Errors: *Refusal.
func Relative(given []byte) (string, error) { return relative(given) }

// below returns what of an absolute path is below the workspace.
func below(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "/"+workspace)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimLeft(rest, "/"), true
}

// open opens a path beneath a directory, in the same file system.
func open(at int, name string, flags int, more uint64) (int, error) {
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOCTTY),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV | more,
	}
	for {
		fd, err := unix.Openat2(at, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// follow opens a path through links that stay in the workspace, those too that name it absolutely.
func follow(top int, name string, flags int) (int, error) {
	fd, err := open(top, name, flags, 0)
	if !errors.Is(err, unix.EXDEV) {
		return fd, err
	}
	settled, settleErr := settle(top, name)
	if settleErr != nil {
		return -1, settleErr
	}
	return open(top, settled, flags, 0)
}

// settle resolves the links of a path by their text. The kernel judges the result when it is opened: what somebody changes
// meanwhile leads nowhere else.
func settle(top int, name string) (string, error) {
	var done []string
	left := strings.Split(name, "/")
	for links := 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(done) == 0 {
				return "", unix.EXDEV
			}
			done = done[:len(done)-1]
			continue
		}
		here := strings.Join(append(done, part), "/")
		target, err := readLink(top, here)
		if err != nil {
			// Not a link, or nothing.
			done = append(done, part)
			continue
		}
		if links++; links > mostLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			inside, ok := below(path.Clean(target))
			if !ok {
				return "", unix.EXDEV
			}
			target, done = inside, nil
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return strings.Join(done, "/"), nil
}

func readLink(at int, name string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// split returns the directory, "" for the top, and the name in it.
func split(name string) (directory, base string) {
	at := strings.LastIndexByte(name, '/')
	if at < 0 {
		return "", name
	}
	return name[:at], name[at+1:]
}
