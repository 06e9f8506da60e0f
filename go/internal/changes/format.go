// This file owns how a section is written, as git does it.
package changes

import (
	"compress/zlib"
	"fmt"
	"strings"
)

const (
	// partBytes is how much of a patch is told at once.
	partBytes = 64 << 10
	// lineOfBinary is how many bytes a line of a binary patch has.
	lineOfBinary = 52
	alphabet     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
)

// write hands the section to emit in parts.
func (s *section) write(emit func([]byte) error) error {
	out := &parts{emit: emit}
	out.add([]byte(s.header()))
	switch {
	case s.binary:
		out.add([]byte("GIT binary patch\n"))
		literal(out, s.now)
		literal(out, s.old)
	default:
		out.add(s.text)
	}
	return out.flush()
}

func (s *section) header() string {
	var b strings.Builder
	fmt.Fprintf(&b, "diff --git %s %s\n", quote("a/"+s.path), quote("b/"+s.path))
	switch {
	case s.oldMode == 0:
		fmt.Fprintf(&b, "new file mode %o\n", s.newMode)
	case s.newMode == 0:
		fmt.Fprintf(&b, "deleted file mode %o\n", s.oldMode)
	case s.oldMode != s.newMode:
		fmt.Fprintf(&b, "old mode %o\nnew mode %o\n", s.oldMode, s.newMode)
	}
	if s.oldMode != 0 && s.newMode != 0 && !s.binary && s.text == nil {
		return b.String()
	}
	fmt.Fprintf(&b, "index %s..%s", blob(s.oldMode, s.old), blob(s.newMode, s.now))
	if s.oldMode == s.newMode {
		fmt.Fprintf(&b, " %o", s.newMode)
	}
	b.WriteByte('\n')
	if s.text != nil {
		fmt.Fprintf(&b, "--- %s\n+++ %s\n", s.label("a/", s.oldMode), s.label("b/", s.newMode))
	}
	return b.String()
}

// label names a side where its lines begin.
func (s *section) label(prefix string, mode uint32) string {
	if mode == 0 {
		return "/dev/null"
	}
	name := quote(prefix + s.path)
	// Others would take what follows a space for a time.
	if name[0] != '"' && strings.IndexByte(name, ' ') >= 0 {
		name += "\t"
	}
	return name
}

// quote writes a name as git does: in quotes where there is something in it that is no plain character.
func quote(name string) string {
	var b strings.Builder
	quoted := false
	for i := range len(name) {
		c := name[i]
		short := strings.IndexByte("\a\b\t\n\v\f\r\"\\", c)
		switch {
		case short >= 0:
			b.WriteByte('\\')
			b.WriteByte(`abtnvfr"\`[short])
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
			continue
		}
		quoted = true
	}
	if !quoted {
		return name
	}
	return `"` + b.String() + `"`
}

// parts gathers what is written, and hands it on when there is enough. The first error sticks.
type parts struct {
	emit func([]byte) error
	held []byte
	err  error
}

func (p *parts) add(data []byte) {
	for len(data) > 0 && p.err == nil {
		n := min(len(data), partBytes-len(p.held))
		p.held = append(p.held, data[:n]...)
		data = data[n:]
		if len(p.held) == partBytes {
			_ = p.flush()
		}
	}
}

func (p *parts) flush() error {
	if p.err == nil && len(p.held) > 0 {
		// It is not used again: whoever has it keeps it.
		p.err = p.emit(p.held)
		p.held = nil
	}
	return p.err
}

// literal writes a content whole, compressed, in lines of base 85.
func literal(out *parts, content []byte) {
	out.add(fmt.Appendf(nil, "literal %d\n", len(content)))
	lines := &lines{out: out}
	packed := zlib.NewWriter(lines)
	_, _ = packed.Write(content)
	_ = packed.Close()
	lines.end()
	out.add(newline)
}

// lines makes lines of base 85 of what is written.
type lines struct {
	out  *parts
	held []byte
}

func (l *lines) Write(data []byte) (int, error) {
	l.held = append(l.held, data...)
	for len(l.held) >= lineOfBinary {
		l.line(l.held[:lineOfBinary])
		l.held = l.held[lineOfBinary:]
	}
	return len(data), l.out.err
}

func (l *lines) end() {
	if len(l.held) > 0 {
		l.line(l.held)
	}
}

// line begins with how many bytes it has: A to Z are 1 to 26, a to z 27 to 52.
func (l *lines) line(data []byte) {
	length := byte('A' + len(data) - 1)
	if len(data) > 26 {
		length = byte('a' + len(data) - 27)
	}
	line := []byte{length}
	for len(data) > 0 {
		var value uint32
		for i := range 4 {
			value <<= 8
			if i < len(data) {
				value |= uint32(data[i])
			}
		}
		data = data[min(4, len(data)):]
		var digits [5]byte
		for i := 4; i >= 0; i-- {
			digits[i] = alphabet[value%85]
			value /= 85
		}
		line = append(line, digits[:]...)
	}
	l.out.add(append(line, '\n'))
}
