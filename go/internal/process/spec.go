// Package process runs programs in the guest: each in its own session and cgroup, its output in a log, its end seen by
// one reaper. It knows nothing of the wire.
//
// This file owns what a process is asked to be, and refuses what cannot be.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// The kinds of refusal; their wrapped errors say what was wrong.
var (
	// ErrInvalid: the request makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: no such process, directory or user.
	ErrNotFound = errors.New("not found")
	// ErrState: not possible for this process as it is now.
	ErrState = errors.New("wrong state")
)

// refusal is an error of one of the kinds above whose text is only its own.
type refusal struct {
	kind error
	text string
}

func (r refusal) Error() string { return r.text }
func (r refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return refusal{kind, fmt.Sprintf(format, args...)}
}

// Size is a terminal's.
type Size struct {
	Columns, Rows uint16
}

// Spec is a process to start.
type Spec struct {
	ID   string
	Argv [][]byte
	// Env is the whole environment, NAME=value each.
	Env [][]byte
	// Cwd is absolute.
	Cwd string
	// User is name, uid, name:group or uid:gid; empty is root.
	User string
	// TTY asks for a terminal of that size.
	TTY     *Size
	NoStdin bool
	// Timeout kills the whole tree; 0 is none.
	Timeout time.Duration
	// WholeTree: what is left of its tree is killed when it has exited itself.
	WholeTree bool
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (s *Spec) validate() error {
	if !idPattern.MatchString(s.ID) {
		return refuse(ErrInvalid, "process_id: must match %s", idPattern)
	}
	if len(s.Argv) == 0 {
		return refuse(ErrInvalid, "argv: must have at least one element")
	}
	for i, arg := range s.Argv {
		if bytes.IndexByte(arg, 0) >= 0 {
			return refuse(ErrInvalid, "argv: element %d holds a zero byte", i)
		}
	}
	for i, entry := range s.Env {
		if bytes.IndexByte(entry, 0) >= 0 || bytes.IndexByte(entry, '=') < 1 {
			return refuse(ErrInvalid, "env: element %d is not NAME=value", i)
		}
	}
	if len(s.Cwd) == 0 || s.Cwd[0] != '/' || bytes.IndexByte([]byte(s.Cwd), 0) >= 0 {
		return refuse(ErrInvalid, "cwd: must be an absolute path without a zero byte")
	}
	if s.Timeout < 0 {
		return refuse(ErrInvalid, "timeout_milliseconds: must not be negative")
	}
	return nil
}
