// Package patch works out what a unified or git patch makes of a tree, without changing it: names, order and what fits are
// judged as git apply judges them.
//
// This file owns the way from a patch's text to its sections, one for each change of a file. What is in a section is read by
// go-gitdiff; it gets them one by one, so that a large patch is never held as lines altogether.
package patch

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

const (
	// MostBytes is how long a patch may be, mostLines how many lines it may have, and MostChanges changes of files.
	MostBytes   = 16 << 20
	mostLines   = 2_000_000
	MostChanges = 10_000
)

// change is what a section says of a file. Names are relative to the tree.
type change struct {
	section []byte
	// line is where it begins in the patch, from 1.
	line int
	// git says that the section begins as git's do; others have names without a rule for their first part.
	git bool
	// oldName is "" for a new file, newName for a deleted one.
	oldName, newName                  string
	isNew, isDelete, isRename, isCopy bool
	// maybeNew: it adds to nothing, and does not say whether there is a file.
	maybeNew bool
	// Modes as git has them, 0 where nothing is said.
	oldMode, newMode uint32
	isText           bool
}

// parse reads the whole patch, so that what is damaged is found before anything is done. Errors: *Problem.
func parse(text []byte) ([]*change, error) {
	if len(text) > MostBytes {
		return nil, problem(Limit, "", "the patch has %d bytes; %d is the most", len(text), MostBytes)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > mostLines {
		return nil, problem(Limit, "", "the patch has %d lines; %d is the most", lines, mostLines)
	}
	changes, err := sections(text)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return nil, problem(Invalid, "", "there is no patch in what was given")
	}
	if len(changes) > MostChanges {
		return nil, problem(Limit, "", "the patch changes %d files; %d is the most", len(changes), MostChanges)
	}
	for _, c := range changes {
		if err := c.describe(); err != nil {
			return nil, err
		}
	}
	return changes, nil
}

var (
	gitBegin   = []byte("diff --git ")
	oldBegin   = []byte("--- ")
	newBegin   = []byte("+++ ")
	hunkBegin  = []byte("@@ -")
	devNull    = "/dev/null"
	hunkHeader = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)
)

// sections cuts a patch where a change of another file begins. What stands between is nobody's.
func sections(text []byte) ([]*change, error) {
	var all []*change
	start, inHeader := 0, false
	end := func(at int) {
		if len(all) > 0 && all[len(all)-1].section == nil {
			all[len(all)-1].section = text[start:at]
		}
	}
	begin := func(at, line int, git bool) {
		end(at)
		start, inHeader = at, git
		all = append(all, &change{line: line, git: git})
	}
	for at, line := 0, 1; at < len(text); line++ {
		rest := text[at:]
		next := at + lineLength(rest)
		switch {
		case bytes.HasPrefix(rest, gitBegin):
			begin(at, line, true)
		case bytes.HasPrefix(rest, hunkBegin):
			inHeader = false
			counts := hunkHeader.FindSubmatch(rest[:next-at])
			if counts == nil {
				break
			}
			if len(all) == 0 {
				return nil, problem(Invalid, "", "line %d of the patch begins a hunk, and no file was named for it", line)
			}
			lines := 0
			next, lines = skipHunk(text, next, count(counts[1]), count(counts[2]))
			line += lines
		case !inHeader && bytes.HasPrefix(rest, oldBegin):
			second := text[next:]
			third := second[lineLength(second):]
			if bytes.HasPrefix(second, newBegin) && bytes.HasPrefix(third, hunkBegin) {
				begin(at, line, false)
			}
		}
		at = next
	}
	end(len(text))
	return all, nil
}

// skipHunk returns where the lines of a hunk end, and how many there are. What is no line of a hunk ends it early.
func skipHunk(text []byte, at, oldLines, newLines int) (end, lines int) {
	for at < len(text) && (oldLines > 0 || newLines > 0) {
		switch text[at] {
		case ' ', '\n':
			oldLines--
			newLines--
		case '-':
			oldLines--
		case '+':
			newLines--
		case '\\':
		default:
			return at, lines
		}
		at += lineLength(text[at:])
		lines++
	}
	return at, lines
}

// count is a count of a hunk's header; where there is none it is 1.
func count(digits []byte) int {
	if digits == nil {
		return 1
	}
	value, err := strconv.Atoi(string(digits))
	if err != nil {
		return mostLines
	}
	return min(value, mostLines)
}

// lineLength is the length of the first line, with its newline.
func lineLength(text []byte) int {
	if at := bytes.IndexByte(text, '\n'); at >= 0 {
		return at + 1
	}
	return len(text)
}

// file reads the section.
func (c *change) file() (*gitdiff.File, error) {
	files, _, err := gitdiff.Parse(bytes.NewReader(c.section))
	if err != nil {
		return nil, problem(Invalid, "", "%s", c.words(err))
	}
	if len(files) != 1 {
		return nil, problem(Invalid, "", "line %d of the patch begins no change that can be understood", c.line)
	}
	return files[0], c.whole(files[0])
}

var lineOfSection = regexp.MustCompile(`^gitdiff: line (-?\d+): `)

// words turns an error about a line of the section into one about the patch.
func (c *change) words(err error) string {
	text := err.Error()
	found := lineOfSection.FindStringSubmatch(text)
	if found == nil {
		return "the patch cannot be understood: " + text
	}
	line, _ := strconv.Atoi(found[1])
	return fmt.Sprintf("line %d of the patch cannot be understood: %s", max(line, 1)+c.line-1, strings.TrimPrefix(text, found[0]))
}

// whole refuses a section whose last line was cut: it may be half of what it was.
func (c *change) whole(file *gitdiff.File) error {
	if len(c.section) == 0 || c.section[len(c.section)-1] == '\n' {
		return nil
	}
	lastLine := c.section[bytes.LastIndexByte(c.section, '\n')+1:]
	without, _, err := gitdiff.Parse(bytes.NewReader(c.section[:len(c.section)-len(lastLine)]))
	if err == nil && len(without) == 1 && sameSize(without[0], file) {
		return nil
	}
	return problem(Invalid, "", "the last line of the patch has no newline at its end: it was cut")
}

func sameSize(a, b *gitdiff.File) bool {
	return len(a.TextFragments) == len(b.TextFragments) && a.OldName == b.OldName && a.NewName == b.NewName && a.IsBinary == b.IsBinary
}

// describe fills in what the section says of its file.
func (c *change) describe() error {
	file, err := c.file()
	if err != nil {
		return err
	}
	c.oldName, c.newName = file.OldName, file.NewName
	c.isNew, c.isDelete, c.isRename, c.isCopy = file.IsNew, file.IsDelete, file.IsRename, file.IsCopy
	c.oldMode, c.newMode = uint32(file.OldMode), uint32(file.NewMode)
	c.isText = len(file.TextFragments) > 0
	if c.isNew {
		c.oldName = ""
	}
	if c.isDelete {
		c.newName = ""
	}
	c.maybeNew = !c.git && !c.isDelete && addsOnly(file)
	changesMode := c.oldMode != 0 && c.newMode != 0 && c.oldMode != c.newMode
	moves := c.isRename || c.isCopy
	switch {
	case !c.isText && !file.IsBinary && !c.isNew && !c.isDelete && !moves && !changesMode:
		return problem(Invalid, "", "line %d of the patch names a file, and nothing is said of it", c.line)
	case c.oldName == devNull || c.newName == devNull:
		return problem(Invalid, "", "line %d of the patch begins a file that is new or deleted, and does not say so", c.line)
	case c.oldName != c.newName && !c.isNew && !c.isDelete && !moves:
		return problem(Invalid, "", "line %d of the patch has two names for one file, and says nothing of a rename", c.line)
	}
	if err := checkReverse(c.name(), file); err != nil {
		return err
	}
	for _, mode := range []uint32{c.oldMode, c.newMode} {
		if err := checkMode(mode, c.name()); err != nil {
			return err
		}
	}
	for _, name := range []string{c.oldName, c.newName} {
		if name == "" {
			continue
		}
		if err := checkName(c.plain(name)); err != nil {
			return err
		}
	}
	return nil
}

func addsOnly(file *gitdiff.File) bool {
	for _, fragment := range file.TextFragments {
		if fragment.OldLines > 0 {
			return false
		}
	}
	return len(file.TextFragments) > 0
}

// name is the one that a message calls the change by.
func (c *change) name() string {
	if c.newName != "" {
		return c.newName
	}
	return c.oldName
}
