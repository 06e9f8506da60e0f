// This file owns holding the writable disk still while the host copies it, and what is written on it beforehand for later
// comparisons.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/manifest"
)

// Where the manifest is, on the writable disk: beside what overlayfs has there.
const (
	ownPlace     = "pyro"
	manifestPath = ownPlace + "/manifest"
	manifestNew  = ownPlace + "/manifest.new"
)

// The kernel's numbers of these calls, which golang.org/x/sys does not have: _IOWR('X', 119, int), _IOWR('X', 120, int).
const (
	ioctlFreeze = 0xc0045877
	ioctlThaw   = 0xc0045878
)

// freezer knows whether the disk is held still, and ends that when its time is over.
type freezer struct {
	mu     sync.Mutex
	frozen bool
	// entries is how many the manifest has that was written for it.
	entries uint64
	timer   *time.Timer
	// turn tells a timer whether it is the newest.
	turn uint64
}

// writeManifest writes down what /workspace holds, and returns the number of entries.
func (r *Root) writeManifest(ctx context.Context) (uint64, error) {
	disk := int(r.writable.Fd())
	tree, err := unix.Open("/workspace", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("/workspace: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.Mkdirat(disk, ownPlace, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, err
	}
	// Made anew: root in the workspace can reach the disk, and leave a fifo there that would be waited for.
	if err := unix.Unlinkat(disk, manifestNew, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, err
	}
	fd, err := unix.Openat(disk, manifestNew, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, err
	}
	file := os.NewFile(uintptr(fd), manifestNew)
	defer file.Close()
	writer := manifest.NewWriter(file)
	err = manifest.Walk(ctx, tree, writer)
	var count uint64
	if err == nil {
		count, err = writer.Close()
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = unix.Renameat(disk, manifestNew, disk, manifestPath)
	}
	if err != nil {
		_ = unix.Unlinkat(disk, manifestNew, 0)
		return 0, err
	}
	return count, nil
}

// Freeze makes the disk whole and holds writers back until Thaw, or for limit; before that it writes the manifest if asked,
// and returns the number of its entries. A second call while it is frozen writes nothing, answers like the first, and
// begins the time anew. Errors: *Error.
func (r *Root) Freeze(ctx context.Context, limit time.Duration, withManifest bool) (uint64, error) {
	f := &r.freezer
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen {
		if err := r.freeze(ctx, withManifest); err != nil {
			return 0, err
		}
	}
	if f.timer != nil {
		f.timer.Stop()
	}
	f.turn++
	turn := f.turn
	f.timer = time.AfterFunc(limit, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if turn != f.turn || !f.frozen {
			return
		}
		boot.Report("nobody thawed the disk within %v", limit)
		if _, err := r.thaw(); err != nil {
			boot.Report("thaw: %v", err)
			f.timer.Reset(thawAgain)
		}
	})
	return f.entries, nil
}

// thawAgain is when a disk that could not be thawed in its time is tried again.
const thawAgain = 5 * time.Second

// freeze is called with the freezer's mu.
func (r *Root) freeze(ctx context.Context, withManifest bool) error {
	var entries uint64
	if withManifest {
		var err error
		if entries, err = r.writeManifest(ctx); err != nil {
			return &Error{"manifest", err}
		}
	}
	disk := int(r.writable.Fd())
	// Most of the writing is done before anyone waits for it.
	if err := unix.Syncfs(disk); err != nil {
		return &Error{"sync", err}
	}
	// EBUSY: the workspace's own root has frozen it.
	if err := unix.IoctlSetInt(disk, ioctlFreeze, 0); err != nil && !errors.Is(err, unix.EBUSY) {
		return &Error{"freeze", err}
	}
	r.freezer.frozen, r.freezer.entries = true, entries
	return nil
}

// Thaw lets writers go on. It tells whether they were held back until now. After an error they are until the time is over.
// Errors: *Error.
func (r *Root) Thaw() (bool, error) {
	f := &r.freezer
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen {
		return false, nil
	}
	held, err := r.thaw()
	if err != nil {
		return false, &Error{"thaw", err}
	}
	f.timer.Stop()
	return held, nil
}

// thaw is called with the freezer's mu. It tells whether the disk was still frozen: the workspace's own root may have thawed
// it, and then what the host has copied is torn.
func (r *Root) thaw() (held bool, err error) {
	err = unix.IoctlSetInt(int(r.writable.Fd()), ioctlThaw, 0)
	held = err == nil
	if errors.Is(err, unix.EINVAL) {
		err = nil
	}
	if err == nil {
		r.freezer.frozen = false
	}
	return held, err
}
