// This file owns replacing a text in a file by another.
package files

import (
	"bytes"
	"context"

	"golang.org/x/sys/unix"
)

// mostLines is how many places of a text are told.
const mostLines = 20

// Edited is what an edit came to.
type Edited struct {
	Info Info
	// Replaced is how often, Lines where, the first of them, by the old file.
	Replaced uint64
	Lines    []uint64
}

// Edit replaces old by new: in its one place, or with all everywhere. Errors: *Refusal, that of ctx.
func (t *Tree) Edit(ctx context.Context, id string, given, old, new []byte, all bool) (Edited, error) {
	return change(ctx, &t.once, id, func() (Edited, error) {
		name, err := relative(given)
		if err != nil {
			return Edited{}, err
		}
		if len(old) == 0 {
			return Edited{}, refuse(Invalid, name, "the text to replace is empty")
		}
		release, err := t.places.Hold(ctx)
		if err != nil {
			return Edited{}, err
		}
		defer release()
		place, err := t.find(name, false)
		if err != nil {
			return Edited{}, err
		}
		defer place.close()
		content, err := place.read()
		if err != nil {
			return Edited{}, err
		}
		lines, count := occurrences(content, old)
		switch {
		case count == 0:
			return Edited{}, unfound(name, content, old)
		case count > 1 && !all:
			refused := refuse(Ambiguous, name, "the text is in %s %d times", shown(name), count)
			refused.Lines, refused.Count = lines, count
			return Edited{}, refused
		}
		if int64(len(content))+int64(count)*int64(len(new)-len(old)) > WriteLimit {
			return Edited{}, refuse(Limit, name, "the file would have more than %d bytes", WriteLimit)
		}
		info, err := t.put(place, bytes.ReplaceAll(content, old, new))
		if err != nil {
			return Edited{}, err
		}
		return Edited{info, count, lines}, nil
	})
}

// read returns the content of a file that is there.
func (p *place) read() ([]byte, error) {
	if p.stat == nil {
		return nil, obstacle(unix.ENOENT, p.path)
	}
	fd, err := open(p.directory, p.name, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, obstacle(err, p.path)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, obstacle(err, p.path)
	}
	if err := needFile(p.path, stat.Mode); err != nil {
		return nil, err
	}
	return readAll(fd, p.path, &stat, WriteLimit)
}

// occurrences returns the lines of the first, and how many there are.
func occurrences(content, text []byte) (lines []uint64, count uint64) {
	line := uint64(1)
	for {
		at := bytes.Index(content, text)
		if at < 0 {
			return lines, count
		}
		count++
		if len(lines) < mostLines {
			line += uint64(bytes.Count(content[:at], newline))
			lines = append(lines, line)
			line += uint64(bytes.Count(text, newline))
		}
		content = content[at+len(text):]
	}
}

var newline = []byte("\n")

// unfound says that a text is not there, and where one is that differs from it in nothing but its white space.
func unfound(name string, content, text []byte) error {
	refused := refuse(Unfound, name, "the text is not in %s", shown(name))
	if lines, count := occurrences(content, bytes.ReplaceAll(text, newline, []byte("\r\n"))); count > 0 && bytes.Contains(text, newline) {
		refused.Why += "; it is with lines that end in CR LF"
		refused.Lines, refused.Count = lines, count
		return refused
	}
	wanted := bareLines(text)
	if len(wanted) == 0 {
		return refused
	}
	have := bytes.Split(content, newline)
	for i := 0; i+len(wanted) <= len(have); i++ {
		if !matches(have[i:], wanted) {
			continue
		}
		refused.Count++
		if len(refused.Lines) < mostLines {
			refused.Lines = append(refused.Lines, uint64(i+1))
		}
	}
	if refused.Count > 0 {
		refused.Why += "; what differs from it in white space alone is"
	}
	return refused
}

// bareLines returns the lines of a text without the white space around them.
func bareLines(text []byte) [][]byte {
	lines := bytes.Split(bytes.TrimSpace(text), newline)
	for i, line := range lines {
		lines[i] = bytes.TrimSpace(line)
	}
	if len(lines) == 1 && len(lines[0]) == 0 {
		return nil
	}
	return lines
}

func matches(have, wanted [][]byte) bool {
	for i, line := range wanted {
		bare := bytes.TrimSpace(have[i])
		// The first and the last may be parts of lines.
		switch {
		case i == 0 && len(wanted) == 1 && bytes.Contains(bare, line):
		case i == 0 && len(wanted) > 1 && bytes.HasSuffix(bare, line):
		case i > 0 && i == len(wanted)-1 && bytes.HasPrefix(bare, line):
		case bytes.Equal(bare, line):
		default:
			return false
		}
	}
	return true
}
