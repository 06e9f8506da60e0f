// This file owns listing what is in the workspace, in an order in which a list can be gone on with: by names, byte by byte, a
// directory before what is in it. Memory is bounded by the answer, whatever a directory holds.
package files

import (
	"container/heap"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	// ListLimit is how many entries there are in an answer.
	ListLimit = 1000
	// deepest is how many directories there may be below each other: each takes a descriptor.
	deepest = 2100
	// answerBytes is how long the names of an answer may be together.
	answerBytes = 1 << 20
)

// Page is a part of a list.
type Page struct {
	Files []Info
	// More: the list goes on behind the last of them.
	More bool
}

// List tells of what is in a directory, with recursive also of what is below, behind the entry `after`; of anything else it
// tells that alone. Links are told of and not followed, but for those on the way to the directory. Errors: *Refusal.
func (t *Tree) List(given []byte, recursive bool, limit uint32, after []byte) (Page, error) {
	name, err := relative(given)
	if err != nil {
		return Page{}, err
	}
	if limit == 0 || limit > ListLimit {
		return Page{}, refuse(Invalid, name, "a list has 1 to %d entries", ListLimit)
	}
	top, err := t.top()
	if err != nil {
		return Page{}, err
	}
	defer unix.Close(top)
	fd, err := follow(top, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) {
		return t.single(top, name, after)
	}
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	defer unix.Close(fd)
	return list(fd, name, name, recursive, int(limit), after)
}

// list tells of what is in an open directory: path is what its entries' paths begin with, name what it is called in refusals.
func list(fd int, path, name string, recursive bool, limit int, after []byte) (Page, error) {
	l := &lister{limit: limit, recursive: recursive, room: answerBytes}
	var from []string
	if len(after) > 0 {
		from = strings.Split(string(after), "/")
	}
	if err := l.directory(fd, path, from, 0); err != nil && !errors.Is(err, errFull) {
		return Page{}, obstacle(err, name)
	}
	return Page{l.found, l.more}, nil
}

// single tells of something that is no directory.
func (t *Tree) single(top int, name string, after []byte) (Page, error) {
	above, base := split(name)
	directory, err := follow(top, above, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	defer unix.Close(directory)
	info, err := describe(directory, base, name)
	if err != nil {
		return Page{}, obstacle(err, name)
	}
	if len(after) > 0 {
		return Page{}, nil
	}
	return Page{Files: []Info{info}}, nil
}

// describe tells of a name in a directory.
func describe(directory int, name, path string) (Info, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(directory, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Info{}, err
	}
	info := infoOf(path, &stat)
	if info.Type == Symlink {
		info.Target, _ = readLink(directory, name)
	}
	return info, nil
}

var errFull = errors.New("the answer is full")

type lister struct {
	limit     int
	recursive bool
	room      int
	found     []Info
	more      bool
}

// directory tells of what is in a directory behind `after`, the components of an entry's path in it.
func (l *lister) directory(fd int, path string, after []string, depth int) error {
	from, told := "", false
	if len(after) > 0 {
		from, told = after[0], true
	}
	for {
		// One more than is wanted says whether there are more; the one that was told is none of them.
		most := l.limit - len(l.found) + 2
		names, err := smallest(fd, from, told, most)
		if err != nil {
			return err
		}
		for _, name := range names {
			if told && name == from {
				err = l.below(fd, join(path, name), name, after[1:], depth)
			} else {
				err = l.entry(fd, path, name, depth)
			}
			if err != nil {
				return err
			}
		}
		if len(names) < most {
			return nil
		}
		from, told = names[len(names)-1], false
	}
}

func (l *lister) entry(fd int, path, name string, depth int) error {
	if len(l.found) == l.limit || l.room < 0 {
		l.more = true
		return errFull
	}
	full := join(path, name)
	info, err := describe(fd, name, full)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	l.found = append(l.found, info)
	l.room -= len(full) + len(info.Target)
	if info.Type != Directory {
		return nil
	}
	return l.below(fd, full, name, nil, depth)
}

// below goes into a directory. One that has gone, is another file system or no directory any more has nothing to tell; one
// that is damaged must not look like an empty one.
func (l *lister) below(fd int, full, name string, after []string, depth int) error {
	if !l.recursive || depth >= deepest {
		return nil
	}
	next, err := open(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if isDamage(err) {
		return err
	}
	if err != nil {
		return nil
	}
	defer unix.Close(next)
	return l.directory(next, full, after, depth+1)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// smallest returns the first names of a directory in order that are behind `from`; with inclusive that one too.
func smallest(fd int, from string, inclusive bool, most int) ([]string, error) {
	var kept largestFirst
	err := listing.Each(fd, func(name string, _ bool) error {
		if name < from || name == from && !inclusive {
			return nil
		}
		if len(kept) < most {
			heap.Push(&kept, name)
		} else if name < kept[0] {
			kept[0] = name
			heap.Fix(&kept, 0)
		}
		return nil
	})
	slices.Sort(kept)
	return kept, err
}

// largestFirst is a heap of names.
type largestFirst []string

func (h largestFirst) Len() int           { return len(h) }
func (h largestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h largestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largestFirst) Push(name any)     { *h = append(*h, name.(string)) }
func (h *largestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
