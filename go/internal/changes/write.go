// This file owns what is told of a change: which parts of it git can be given, and how many lines are others.
package changes

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/sys/unix"
)

// Modes as git has them.
const (
	gitFile       = 0o100644
	gitExecutable = 0o100755
	gitLink       = 0o120000
)

// looked is in how much of a content git looks for what is no text, bytes.
const looked = 8000

// writer tells changes, one after the other.
type writer struct {
	*finder
	stat bool
	emit func(Event) error
}

// gitMode returns the mode that git has for something, 0 for what it does not know.
func gitMode(mode uint32) uint32 {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		if mode&unix.S_IXUSR != 0 {
			return gitExecutable
		}
		return gitFile
	case unix.S_IFLNK:
		return gitLink
	}
	return 0
}

// write tells one change, as it is by now: what has gone meanwhile, or is again what it was, is none.
func (w *writer) write(change *Change) error {
	old, err := w.old(change.Path, change.OldMode)
	if err != nil {
		return err
	}
	now, err := w.now(change.Path, change.NewMode)
	if err != nil {
		return err
	}
	if change.Status != Deleted && now.mode == 0 {
		if change.Status == Added {
			return nil
		}
		change.Status = Deleted
	}
	if change.Status == Modified && old.mode == now.mode && same(&old, &now) {
		return nil
	}
	change.NewMode = now.mode
	change.OldSize, change.NewSize = old.size, now.size
	sections := w.sections(change, &old, &now)
	for i := range sections {
		s := &sections[i]
		change.Text = change.Text || s.insertions+s.deletions > 0 && s.isFile
		change.Insertions += s.insertions
		change.Deletions += s.deletions
	}
	if err := w.emit(Event{Change: change}); err != nil || w.stat {
		return err
	}
	for i := range sections {
		if err := sections[i].write(w.patch); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) patch(part []byte) error { return w.emit(Event{Patch: part}) }

func same(a, b *side) bool { return !a.tooLarge && !b.tooLarge && bytes.Equal(a.content, b.content) }

// sections returns what stands in the patch for a change, and says whether that is all of it.
func (w *writer) sections(change *Change, old, now *side) []section {
	oldMode, newMode := gitMode(old.mode), gitMode(now.mode)
	isLink := oldMode == gitLink || newMode == gitLink
	if old.tooLarge || now.tooLarge || oldMode == 0 && newMode == 0 || !isPatchable(change.Path, isLink) {
		return nil
	}
	// What git does not know is not made by the patch. A directory is, by what is in it.
	unknown := func(s *side, mode uint32) bool { return s.mode != 0 && mode == 0 && !isDirectory(s.mode) }
	change.Patched = !unknown(old, oldMode) && !unknown(now, newMode)
	if oldMode != 0 && newMode != 0 && (oldMode == gitLink) == (newMode == gitLink) {
		if oldMode == newMode && bytes.Equal(old.content, now.content) {
			// A part of its mode that git does not keep.
			change.Patched = false
			return nil
		}
		return []section{newSection(change.Path, oldMode, newMode, old.content, now.content)}
	}
	var all []section
	if oldMode != 0 {
		all = append(all, newSection(change.Path, oldMode, 0, old.content, nil))
	}
	if newMode != 0 {
		all = append(all, newSection(change.Path, 0, newMode, nil, now.content))
	}
	return all
}

// section is a part of a patch that has one header.
type section struct {
	path             string
	oldMode, newMode uint32
	old, now         []byte
	isFile           bool
	// text is the hunks; binary says that there are none because it is no text.
	text                  []byte
	binary                bool
	insertions, deletions uint64
}

// newSection compares two contents. A mode of 0 says that there is nothing on that side.
func newSection(path string, oldMode, newMode uint32, old, now []byte) section {
	s := section{path: path, oldMode: oldMode, newMode: newMode, old: old, now: now}
	s.isFile = oldMode != gitLink && newMode != gitLink
	if bytes.Equal(old, now) {
		return s
	}
	if s.isFile && (isBinary(old) || isBinary(now) || len(old)+len(now) > mostText ||
		bytes.Count(old, newline)+bytes.Count(now, newline) > mostLines) {
		s.binary = true
		return s
	}
	s.text = hunks(old, now)
	for rest := s.text; len(rest) > 0; {
		switch rest[0] {
		case '+':
			s.insertions++
		case '-':
			s.deletions++
		}
		rest = rest[lineLength(rest):]
	}
	return s
}

var newline = []byte("\n")

// hunks returns a unified diff without the lines that name the files.
func hunks(old, now []byte) []byte {
	text := diff.Diff("", old, "", now)
	for range 3 {
		text = text[lineLength(text):]
	}
	return text
}

func lineLength(text []byte) int {
	if at := bytes.IndexByte(text, '\n'); at >= 0 {
		return at + 1
	}
	return len(text)
}

// isBinary is git's rule.
func isBinary(content []byte) bool {
	return bytes.IndexByte(content[:min(len(content), looked)], 0) >= 0
}

// blob is the name that git has for a content; all zeros for none.
func blob(mode uint32, content []byte) string {
	if mode == 0 {
		return "0000000000000000000000000000000000000000"
	}
	sum := sha1.New()
	fmt.Fprintf(sum, "blob %d\x00", len(content))
	sum.Write(content)
	return hex.EncodeToString(sum.Sum(nil))
}
