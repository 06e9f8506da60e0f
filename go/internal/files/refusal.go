// This file owns the words in which something about a file is refused.
package files

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/transfer"
)

// Kind is what was refused. The host tells them apart by these words; the protocol says what they mean.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"
	WrongKind Kind = "kind"
	Outside   Kind = "outside"
	Conflict  Kind = "conflict"
	Limit     Kind = "limit"
	Full      Kind = "full"
	Invalid   Kind = "invalid"
	Unfound   Kind = "unfound"
	Ambiguous Kind = "ambiguous"
	BadPatch  Kind = "patch"
	Reject    Kind = "reject"
	Baseline  Kind = "baseline"
	Damaged   Kind = "damaged"
	Failed    Kind = "failed"
)

// Refusal says why nothing was changed, or not all.
type Refusal struct {
	Kind Kind
	Why  string
	Path string
	// Lines are where a text was found, the first of them, and Count how often.
	Lines []uint64
	Count uint64
	// Hunk, from 1, does not fit at Line: what it expects there, and what stands there instead.
	Hunk            int
	Line            uint64
	Expected, Found [][]byte
	// Partly: some files were changed and others not. Each is its old or its new self.
	Partly bool
}

func (r *Refusal) Error() string { return string(r.Kind) + ": " + r.Why }

func refuse(kind Kind, path, format string, values ...any) *Refusal {
	return &Refusal{Kind: kind, Path: path, Why: fmt.Sprintf(format, values...)}
}

// obstacle turns what a system call said of a path into a refusal.
func obstacle(err error, path string) error {
	var refused *Refusal
	var staged *transfer.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return err
	case errors.As(err, &staged) && staged.Kind == transfer.Full, errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return refuse(Full, path, "the workspace's disk has no room for %s", shown(path))
	case errors.Is(err, unix.ENOENT):
		return refuse(Missing, path, "there is no %s", shown(path))
	case errors.Is(err, unix.EXDEV):
		return refuse(Outside, path, "%s leads out of /%s, or into another file system", shown(path), workspace)
	case errors.Is(err, unix.ELOOP):
		return refuse(Outside, path, "%s leads through too many symbolic links, or through one that is not followed", shown(path))
	case errors.Is(err, unix.ENOTDIR):
		return refuse(WrongKind, path, "%s leads through something that is no directory", shown(path))
	case errors.Is(err, unix.ENAMETOOLONG):
		return refuse(Invalid, path, "%s is longer than a name or a path may be", shown(path))
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EPERM),
		errors.Is(err, unix.EBUSY), errors.Is(err, unix.ETXTBSY):
		return refuse(Conflict, path, "something is in the way of %s: %v", shown(path), err)
	case isDamage(err):
		return refuse(Damaged, path, "the disk is damaged at %s: %v", shown(path), err)
	}
	return refuse(Failed, path, "%s: %v", shown(path), err)
}

// isDamage tells whether the kernel could not make sense of the disk, or not read it.
func isDamage(err error) bool {
	return errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.EIO)
}

// shown is a path as a message has it: relative to the workspace, or absolute where it is one of a whole disk. Names are
// bytes: what is no text is shown as its escape.
func shown(path string) string {
	full := "/" + workspace
	if strings.HasPrefix(path, "/") {
		full = path
	} else if path != "" {
		full += "/" + path
	}
	quoted := fmt.Sprintf("%.300q", full)
	if quoted[1:len(quoted)-1] == full {
		return full
	}
	return quoted
}
