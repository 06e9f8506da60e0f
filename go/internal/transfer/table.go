// Package transfer takes tar archives into the workspace: everything is staged and checked first, then put in its place by
// renames. After a refusal nothing has changed.
//
// This file owns the transfers there are: their ids, the bytes on their way, how many there may be, and their end.
package transfer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/listing"
)

const (
	workspace = "workspace"
	// stagings is the directory of what is staged, on the disk and not in the root: making a file takes twice as long
	// through overlayfs.
	stagings = "pyro-transfers"
	// shown is how the names begin that stagings have in the root, while what is in them is put in its place. leftShown
	// is that of all names which transfers ever had there.
	// Single files have such names from the beginning.
	shown     = ".pyro-transfer-"
	leftShown = ".pyro-transfer"

	// maxActive is how many transfers there may be at once, maxEnded of how many the outcome is remembered.
	maxActive = 8
	maxEnded  = 64
	// silence is how long a transfer may hear nothing.
	silence = 60 * time.Second
	// directoryMemory is what the directories of all archives may take together.
	directoryMemory = 48 << 20
	// removal is how long a refusal waits for the staging to be gone: a workspace that adds to it has it removed later.
	removal = 30 * time.Second
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Table holds the transfers of one microVM. Its methods may be called at the same time.
type Table struct {
	rootFD, diskFD int
	// upper is the directory of the disk whose names the root shows, upperFD a descriptor of it.
	upper   string
	upperFD int
	report  func(format string, values ...any)
	memory  atomic.Int64
	// commits is held, as its one element, by what changes the workspace: one at a time.
	commits chan struct{}

	mu        sync.Mutex
	transfers map[string]*transfer
	ended     []string
	active    int
	closed    bool
}

// transfer is one of them.
type transfer struct {
	id     string
	parts  []string
	source *source
	unpack *unpacker
	// calls is held, as its one element, by the call that brings bytes or the end.
	calls  chan struct{}
	pieces chan []byte
	// stop is closed when it is to be dropped, over when all of it is done and result and err stand.
	stop, over chan struct{}
	result     Result
	err        error
	// Guarded by the table's mu.
	dropped, committing bool
	using               int
	timer               *time.Timer
	// Guarded by calls.
	accepted uint64
	finished bool
}

// Result is what a transfer brought.
type Result struct {
	Entries uint64
	// Bytes of all files together, holes included.
	Bytes uint64
}

// Open begins with no transfers; what earlier ones left behind is removed. root is a file system, disk a descriptor of the
// top of the one that lies below it, upper the directory on it, with one component, whose names root shows; nobody may have
// looked into root yet. report is told what goes wrong behind the scenes.
func Open(root string, disk int, upper string, report func(format string, values ...any)) (*Table, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	upperFD, err := openDirectory(disk, upper)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", upper, err)
	}
	t := &Table{
		rootFD: fd, diskFD: disk, upper: upper, upperFD: upperFD, report: report,
		commits: make(chan struct{}, 1), transfers: map[string]*transfer{},
	}
	t.memory.Store(directoryMemory)
	if err := t.removeLeft(); err != nil {
		report("what transfers left behind: %v", err)
	}
	return t, nil
}

// removeLeft renames what earlier transfers left, so that removing it can take its time while new ones begin.
func (t *Table) removeLeft() error {
	var failures []error
	aside := func(at int, name string) {
		// Nothing is left as a rule, and a random name has its price in a fresh microVM.
		if unix.Fstatat(at, name, &unix.Stat_t{}, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT {
			return
		}
		if err := unix.Renameat(at, name, t.diskFD, stagings+"-"+randomName()); err != nil && !errors.Is(err, unix.ENOENT) {
			failures = append(failures, err)
		}
	}
	upper, err := openDirectory(t.diskFD, t.upper)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	err = listing.Each(upper, func(name string, _ bool) error {
		if strings.HasPrefix(name, leftShown) {
			aside(upper, name)
		}
		return nil
	})
	aside(t.diskFD, stagings)
	top, err2 := openDirectory(t.diskFD, ".")
	if err2 != nil {
		return errors.Join(append(failures, err, err2)...)
	}
	defer unix.Close(top)
	var left []string
	err2 = listing.Each(top, func(name string, _ bool) error {
		if strings.HasPrefix(name, stagings+"-") {
			left = append(left, name)
		}
		return nil
	})
	go func() {
		for _, name := range left {
			t.remove(t.diskFD, name)
		}
	}()
	return errors.Join(append(failures, err, err2)...)
}

func randomName() string {
	var name [8]byte
	_, _ = rand.Read(name[:])
	return hex.EncodeToString(name[:])
}

func (t *Table) remove(at int, name string) {
	if err := removeTree(at, name, 0); err != nil {
		t.report("remove what was staged: %v", err)
	}
}

// Close drops all transfers, and waits for what is being put in its place, as long as ctx allows. Nothing is put there
// afterwards.
func (t *Table) Close(ctx context.Context) {
	t.mu.Lock()
	t.closed = true
	var waiting []*transfer
	for _, one := range t.transfers {
		t.drop(one)
		waiting = append(waiting, one)
	}
	t.mu.Unlock()
	for _, one := range waiting {
		select {
		case <-one.over:
		case <-ctx.Done():
		}
	}
	// Never given back.
	_, _ = t.Hold(ctx)
}

// Begin opens a transfer. A second call with the same id begins nothing. Errors: ErrInvalid, ErrBusy, *Refusal.
func (t *Table) Begin(id, destination string, maxBytes, maxEntries uint64) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%w: transfer_id does not match %s", ErrInvalid, idPattern)
	}
	parts, err := destinationParts(destination)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.transfers[id] != nil {
		return nil
	}
	if t.closed {
		return ErrAborted
	}
	if t.active >= maxActive {
		return fmt.Errorf("%w: at most %d", ErrBusy, maxActive)
	}
	one := &transfer{
		id: id, parts: parts, calls: make(chan struct{}, 1), pieces: make(chan []byte, 1),
		stop: make(chan struct{}), over: make(chan struct{}),
	}
	one.source = &source{pieces: one.pieces, stop: one.stop}
	one.unpack = &unpacker{source: one.source, maxBytes: maxBytes, maxEntries: maxEntries}
	one.timer = time.AfterFunc(silence, func() { t.silent(one) })
	t.transfers[id] = one
	t.active++
	go t.run(one)
	return nil
}

// use finds a transfer and keeps it from being dropped for silence until done is called.
func (t *Table) use(id string) (one *transfer, done func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one = t.transfers[id]
	if one == nil {
		return nil, nil, ErrUnknown
	}
	one.using++
	return one, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		one.using--
		one.timer.Reset(silence)
	}, nil
}

func (t *Table) silent(one *transfer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.using == 0 {
		t.drop(one)
	}
}

// drop lets a transfer end, unless it is being put in its place. Called with mu.
func (t *Table) drop(one *transfer) {
	if one.dropped || one.committing {
		return
	}
	one.dropped = true
	close(one.stop)
}

// Write hands over the next bytes, and returns how many were accepted altogether. It waits while unpacking is behind.
// The bytes are kept, not copied. Errors: ErrUnknown, ErrInvalid, what the transfer was refused with, that of ctx.
func (t *Table) Write(ctx context.Context, id string, offset uint64, data []byte) (uint64, error) {
	one, done, err := t.use(id)
	if err != nil {
		return 0, err
	}
	defer done()
	select {
	case one.calls <- struct{}{}:
		defer func() { <-one.calls }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-one.over:
		if one.err != nil {
			return 0, one.err
		}
	default:
	}
	if offset > one.accepted {
		return 0, fmt.Errorf("%w: offset %d is behind the %d bytes accepted so far", ErrInvalid, offset, one.accepted)
	}
	if offset+uint64(len(data)) <= one.accepted {
		return one.accepted, nil
	}
	if one.finished {
		return 0, fmt.Errorf("%w: the archive was said to be whole", ErrInvalid)
	}
	data = data[one.accepted-offset:]
	select {
	case one.pieces <- data:
		one.accepted += uint64(len(data))
		return one.accepted, nil
	case <-one.over:
		// Before its end was told it can only have failed.
		return 0, one.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Finish says that the archive is whole and waits until everything is in its place. Errors as for Write, and a *Refusal
// that is Partly. It answers what happened, also after an Abort that came too late.
func (t *Table) Finish(ctx context.Context, id string, size uint64) (Result, error) {
	one, done, err := t.use(id)
	if err != nil {
		return Result{}, err
	}
	defer done()
	if err := one.finish(ctx, size); err != nil {
		return Result{}, err
	}
	select {
	case <-one.over:
		return one.result, one.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (one *transfer) finish(ctx context.Context, size uint64) error {
	select {
	case one.calls <- struct{}{}:
		defer func() { <-one.calls }()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-one.over:
		return nil
	default:
	}
	if size != one.accepted {
		return fmt.Errorf("%w: the archive has %d bytes, and %d were accepted", ErrInvalid, size, one.accepted)
	}
	if !one.finished {
		one.finished = true
		close(one.pieces)
	}
	return nil
}

// Abort drops a transfer and waits until nothing of it is left. One that is being put in its place is, and one that is not
// known is none.
func (t *Table) Abort(ctx context.Context, id string) error {
	t.mu.Lock()
	one := t.transfers[id]
	if one != nil {
		t.drop(one)
	}
	t.mu.Unlock()
	if one == nil {
		return nil
	}
	select {
	case <-one.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hold keeps the workspace as it is: nothing is put in its place until release is called.
func (t *Table) Hold(ctx context.Context) (release func(), err error) {
	select {
	case t.commits <- struct{}{}:
		return func() { <-t.commits }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run carries a transfer out, from its first byte to its end.
func (t *Table) run(one *transfer) {
	// Files get their modes as they are made. The umask belongs to the thread alone from here on, and the thread ends with
	// this goroutine.
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		unix.Umask(0)
		err = t.carryOut(one)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	one.timer.Stop()
	one.err = err
	if err == nil {
		one.result = Result{one.unpack.entries, one.unpack.bytes}
	}
	one.unpack, one.source = nil, nil
	t.active--
	t.ended = append(t.ended, one.id)
	if len(t.ended) > maxEnded {
		delete(t.transfers, t.ended[0])
		t.ended = t.ended[1:]
	}
	close(one.over)
}

func (t *Table) carryOut(one *transfer) (err error) {
	// What can be known before a byte has come is said then.
	early, err := openDestination(t.rootFD, one.parts)
	if err != nil {
		return err
	}
	early.close()
	name := randomName()
	staging, err := makeStaging(t.diskFD, name)
	if err != nil {
		return err
	}
	defer t.clear(name)
	one.unpack.stage = newStage(staging, &t.memory)
	defer one.unpack.stage.close()
	if err := one.unpack.run(); err != nil {
		return err
	}
	select {
	case t.commits <- struct{}{}:
		defer func() { <-t.commits }()
	case <-one.stop:
		return ErrAborted
	}
	return t.commit(one, name)
}

// commit looks whether everything can be put in its place, makes it safe from the loss of the microVM, and does it.
func (t *Table) commit(one *transfer, name string) error {
	place, err := openDestination(t.rootFD, one.parts)
	if err != nil {
		return err
	}
	defer place.close()
	if err := room(place.fd); err != nil {
		return err
	}
	look := &merge{stage: one.unpack.stage, named: "/" + filepath.Join(one.parts...)}
	if len(place.missing) == 0 {
		if err := look.walk(place.fd); err != nil {
			return err
		}
	}
	// A file that has its new name must have its new content.
	if err := unix.Syncfs(one.unpack.stage.top); err != nil {
		return failed("sync", look.named, err)
	}
	t.mu.Lock()
	if one.dropped {
		t.mu.Unlock()
		return ErrAborted
	}
	one.committing = true
	t.mu.Unlock()
	return t.replace(one, place, name)
}

// replace puts everything in its place. What nobody could foresee ends it: with a *Refusal that is Partly, or, where
// nothing was changed, as if it had not begun.
func (t *Table) replace(one *transfer, place *destination, name string) error {
	if err := t.show(one.unpack.stage, name); err != nil {
		return failed("show", name, err)
	}
	named := "/" + filepath.Join(one.parts...)
	if err := place.make(); err != nil {
		place.unmake()
		return err
	}
	do := &merge{stage: one.unpack.stage, named: named, do: true}
	err := do.walk(place.fd)
	if err == nil {
		if err = unix.Syncfs(place.fd); err != nil {
			err = failed("sync", named, err)
		}
	}
	if err == nil {
		return nil
	}
	if !do.changed {
		place.unmake()
	}
	return unforeseen(err, do.changed)
}

// show gives a staged tree, which is whole, a name in the root, from where it can be renamed into the workspace. It is the
// one thing that is done beneath overlayfs, which looks for a name on the disk when it is asked for it first: nobody can
// have asked for this one.
func (t *Table) show(s *stage, name string) error {
	staged, err := openDirectory(t.diskFD, stagings)
	if err != nil {
		return err
	}
	defer unix.Close(staged)
	upper, err := openDirectory(t.diskFD, t.upper)
	if err != nil {
		return err
	}
	defer unix.Close(upper)
	if err := unix.Renameat2(staged, name, upper, shown+name, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	top, err := openDirectory(t.rootFD, shown+name)
	if err != nil {
		return err
	}
	unix.Close(s.top)
	s.top = top
	return nil
}

// clear removes a staging, and the directory of all when it was the last.
func (t *Table) clear(name string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.remove(t.rootFD, shown+name)
		if all, err := openDirectory(t.diskFD, stagings); err == nil {
			t.remove(all, name)
			unix.Close(all)
		}
		_ = unix.Unlinkat(t.diskFD, stagings, unix.AT_REMOVEDIR)
	}()
	select {
	case <-done:
	case <-time.After(removal):
	}
}
