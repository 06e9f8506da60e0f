// This file owns the words in which a transfer is refused.
package transfer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kind is what a transfer was refused for. The host tells them apart by these words.
type Kind string

const (
	// Archive: it is no tar archive, is cut short, or holds what cannot be unpacked.
	Archive Kind = "archive"
	// Outside: a name would land outside of the destination.
	Outside Kind = "outside"
	// Conflict: something of another kind is in the way in the workspace.
	Conflict Kind = "conflict"
	// Limit: more bytes or entries than were allowed.
	Limit Kind = "limit"
	// Full: the disk has no room.
	Full Kind = "full"
	// Failed: what the kernel says in the middle of the renames and nobody could foresee.
	Failed Kind = "failed"
)

// Refusal says why a transfer changed nothing, or not all.
type Refusal struct {
	Kind Kind
	Why  string
	// Partly: some of it is in its place and the rest is not. Each file is its old or its new self.
	Partly bool
}

func (r *Refusal) Error() string {
	if r.Partly {
		return string(r.Kind) + ": partly: " + r.Why
	}
	return string(r.Kind) + ": " + r.Why
}

// unforeseen turns the error that ended the renames into one that says whether some were made.
func unforeseen(err error, partly bool) error {
	var refused *Refusal
	if errors.As(err, &refused) {
		return &Refusal{refused.Kind, refused.Why, partly}
	}
	for _, inTheWay := range []unix.Errno{
		unix.EBUSY, unix.EEXIST, unix.EISDIR, unix.ELOOP, unix.ENOTDIR, unix.ENOTEMPTY, unix.EPERM, unix.EXDEV,
	} {
		if errors.Is(err, inTheWay) {
			return &Refusal{Conflict, err.Error(), partly}
		}
	}
	return &Refusal{Failed, err.Error(), partly}
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrInvalid: the call makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrUnknown: there is no such transfer, or no more.
	ErrUnknown = errors.New("no such transfer")
	// ErrBusy: too many transfers at once.
	ErrBusy = errors.New("too many transfers at once")
	// ErrAborted: it was aborted, or heard nothing for too long.
	ErrAborted = errors.New("the transfer was dropped")
)

func refuse(kind Kind, format string, values ...any) error {
	return &Refusal{Kind: kind, Why: fmt.Sprintf(format, values...)}
}

// refuseEntry names the entry as it stands in the archive. Names are bytes: what is no text is shown as its escape.
func refuseEntry(kind Kind, name, format string, values ...any) error {
	return &Refusal{Kind: kind, Why: fmt.Sprintf("%.300q ", name) + fmt.Sprintf(format, values...)}
}

// failed turns a system call's error into one that names what it was about.
func failed(what, name string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return refuse(Full, "the guest's disk has no room for %.300q", name)
	}
	return fmt.Errorf("%s %.300q: %w", what, name, err)
}
