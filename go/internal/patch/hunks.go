// This file owns finding where the hunks of a patch belong in a text, and changing it. A hunk's lines must be there exactly; they
// may have moved.
package patch

import (
	"bytes"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// shownLines and shownBytes bound what is told of a hunk that does not fit.
const (
	shownLines = 10
	shownBytes = 200
)

// text is a file while hunks are put into it: its lines, and which of them a hunk has been at.
type text struct {
	lines   [][]byte
	patched []bool
}

func newText(content []byte) *text {
	lines := splitLines(content)
	return &text{lines, make([]bool, len(lines))}
}

// splitLines keeps the newlines.
func splitLines(content []byte) [][]byte {
	lines := make([][]byte, 0, bytes.Count(content, []byte("\n"))+1)
	for len(content) > 0 {
		n := lineLength(content)
		lines = append(lines, content[:n])
		content = content[n:]
	}
	return lines
}

// hunk is a fragment as it is looked for.
type hunk struct {
	// before are the lines that must be there, after those that come in their place.
	before, after [][]byte
	// wanted is the line, from 0, where it says that it belongs.
	wanted int
	// atBegin, atEnd: it has no context there because the file has no lines there.
	atBegin, atEnd bool
}

func newHunk(fragment *gitdiff.TextFragment) hunk {
	h := hunk{
		wanted:  int(min(max(fragment.NewPosition-1, 0), 1<<31)),
		atBegin: fragment.OldPosition <= 1,
		atEnd:   fragment.TrailingContext == 0,
	}
	for _, line := range fragment.Lines {
		if line.Old() {
			h.before = append(h.before, []byte(line.Line))
		}
		if line.New() {
			h.after = append(h.after, []byte(line.Line))
		}
	}
	return h
}

// patch puts all hunks of a file into a content. Errors: *Problem.
func patchText(path string, content []byte, fragments []*gitdiff.TextFragment) ([]byte, error) {
	t := newText(content)
	for i, fragment := range fragments {
		h := newHunk(fragment)
		at := t.find(h)
		if at < 0 {
			return nil, t.reject(path, i+1, h)
		}
		t.replace(at, h)
	}
	return bytes.Join(t.lines, nil), nil
}

// find returns the line where a hunk belongs: where it says, or the nearest where its lines are, those behind first; -1 for
// none.
func (t *text) find(h hunk) int {
	start := min(h.wanted, len(t.lines))
	switch {
	case h.atBegin:
		start = 0
	case h.atEnd:
		start = len(t.lines) - len(h.before)
	}
	if start < 0 {
		return -1
	}
	if h.atBegin || h.atEnd {
		// Nowhere else, then.
		if t.fits(start, h) {
			return start
		}
		return -1
	}
	if t.fits(start, h) {
		return start
	}
	for distance := 1; distance <= max(start, len(t.lines)-start); distance++ {
		if at := start + distance; at <= len(t.lines) && t.fits(at, h) {
			return at
		}
		if at := start - distance; at >= 0 && t.fits(at, h) {
			return at
		}
	}
	return -1
}

// fits says whether a hunk's lines are at a line, and no other hunk has been there.
func (t *text) fits(at int, h hunk) bool {
	end := at + len(h.before)
	if end > len(t.lines) || h.atEnd && end != len(t.lines) || h.atBegin && at != 0 {
		return false
	}
	for i, line := range h.before {
		there := t.lines[at+i]
		if t.patched[at+i] || !bytes.Equal(there, line) && !(i == len(h.before)-1 && !h.atEnd && endsEarly(there, line)) {
			return false
		}
	}
	return true
}

// endsEarly says whether a hunk's last line, which has no newline, is a line that goes on with white space alone: git takes that
// for the same unless the hunk must be at the end.
func endsEarly(there, line []byte) bool {
	if len(line) == 0 || line[len(line)-1] == '\n' {
		return false
	}
	rest, ok := bytes.CutPrefix(there, line)
	return ok && len(bytes.TrimSpace(rest)) == 0
}

func (t *text) replace(at int, h hunk) {
	before, after := len(h.before), len(h.after)
	if before == after {
		copy(t.lines[at:], h.after)
	} else {
		lines := make([][]byte, 0, len(t.lines)-before+after)
		lines = append(append(append(lines, t.lines[:at]...), h.after...), t.lines[at+before:]...)
		patched := make([]bool, len(lines))
		copy(patched, t.patched[:at])
		copy(patched[at+after:], t.patched[at+before:])
		t.lines, t.patched = lines, patched
	}
	for i := range after {
		t.patched[at+i] = true
	}
}

// reject says what of a hunk does not fit where it should be.
func (t *text) reject(path string, number int, h hunk) *Problem {
	at := min(h.wanted, len(t.lines))
	if h.atBegin {
		at = 0
	}
	same := 0
	for same < len(h.before) && at+same < len(t.lines) && bytes.Equal(t.lines[at+same], h.before[same]) {
		same++
	}
	refused := problem(Rejected, path, "hunk %d does not fit %s at line %d, and nowhere else", number, quoted(path), at+same+1)
	refused.Hunk, refused.Line = number, at+same+1
	refused.Expected = someLines(h.before[same:])
	refused.Found = someLines(t.lines[at+same : min(at+max(len(h.before), same+1), len(t.lines))])
	switch {
	case t.find(hunk{before: h.after, after: h.before, wanted: h.wanted, atBegin: h.atBegin, atEnd: h.atEnd}) >= 0:
		refused.Why += "; what it makes is there already: it may have been applied before"
	case same == len(h.before) && h.atEnd:
		refused.Why += "; it has no lines behind it, and the file has"
	case same == len(h.before) && h.atBegin:
		refused.Why += "; it has no lines before it, and the file has"
	case at+same >= len(t.lines):
		refused.Why += "; the file ends before that"
	}
	return refused
}

func someLines(lines [][]byte) [][]byte {
	var some [][]byte
	for _, line := range lines[:min(len(lines), shownLines)] {
		some = append(some, bytes.Clone(line[:min(len(line), shownBytes)]))
	}
	return some
}
