// Package readiness looks whether a service is ready: once, within a deadline, and whatever the workspace's programs and
// files do meanwhile. A look returns nil, or why the service is not ready.
//
// This file owns what the looks have in common, and the one at a file.
package readiness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// reasonLimit is the longest reason, bytes.
const reasonLimit = 1000

// looking bounds how many files are looked at: on a file system that does not answer each costs a thread of guestd.
var looking = make(chan struct{}, 8)

// Reason is a look's result as text: valid UTF-8 and not long.
func Reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) <= reasonLimit {
		return text
	}
	return strings.ToValidUTF8(text[:reasonLimit], "") + "..."
}

// File looks whether something is at an absolute path, of whatever type; symbolic links are followed.
func File(ctx context.Context, path string) error {
	select {
	case looking <- struct{}{}:
	case <-ctx.Done():
		return late(ctx, "files of the guest that do not answer are waited for")
	}
	found := make(chan error, 1)
	go func() {
		defer func() { <-looking }()
		_, err := os.Stat(path)
		found <- err
	}()
	select {
	case err := <-found:
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("there is no %s", path)
		case err != nil:
			return fmt.Errorf("%s cannot be looked at: %s", path, plain(err))
		}
		return nil
	case <-ctx.Done():
		return late(ctx, path+" does not answer")
	}
}

// late is the reason of a look that took too long.
func late(ctx context.Context, what string) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return errors.New(what)
}

// plain is what the system said, without the names of Go's functions around it.
func plain(err error) string {
	var errno unix.Errno
	var resolved *net.DNSError
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &resolved):
		return resolved.Err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// left is how long ctx has still to go.
func left(ctx context.Context, otherwise time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return otherwise
}
