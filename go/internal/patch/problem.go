// This file owns the words in which a patch is refused.
package patch

import "fmt"

// Kind is what a patch is refused for.
type Kind int

// The kinds.
const (
	// Invalid: it is no patch, or a damaged one.
	Invalid Kind = iota
	// Rejected: it does not fit the files.
	Rejected
	// Outside: it is about something outside of the tree.
	Outside
	// Conflict: something is in the way that the patch does not speak of.
	Conflict
	// Limit: it is too large, or what it is about.
	Limit
)

// Problem says why a patch is not applied.
type Problem struct {
	Kind Kind
	Why  string
	// Path is the file it is about, "" when it is about none.
	Path string
	// Hunk, from 1, does not fit at Line of the file, from 1: what it expects there and what stands there instead.
	Hunk, Line      int
	Expected, Found [][]byte
}

func (p *Problem) Error() string { return p.Why }

func problem(kind Kind, path, format string, values ...any) *Problem {
	return &Problem{Kind: kind, Path: path, Why: fmt.Sprintf(format, values...)}
}

// quoted is a path as a message has it.
func quoted(path string) string {
	text := fmt.Sprintf("%.300q", path)
	if text[1:len(text)-1] == path {
		return path
	}
	return text
}
