// Package memory owns the memory of templates: anonymous files (memfd) that are booted on once, then sealed against
// every later write, saved, loaded again and lent to microVMs. A sealed memory can be mapped privately by any number
// of microVMs, and none of them can change what the others see.
package memory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrExists: there is memory for this template already.
	ErrExists = errors.New("memory exists already")
	// ErrUnknown: there is no memory for this template.
	ErrUnknown = errors.New("no memory for this template")
	// ErrBusy: the memory is in a state, or in use, that does not allow this.
	ErrBusy = errors.New("memory is in use")
	// ErrDigest: what was read is not what was saved.
	ErrDigest = errors.New("digest")
)

// MaxBytes is the largest memory of a template.
const MaxBytes = 1 << 40

const allSeals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

type state int

const (
	fresh   state = iota // may be written, by one microVM at a time
	working              // being loaded or sealed
	sealed
)

type entry struct {
	file  *os.File
	size  uint64
	state state
	users int
	// sha256 is known once it was saved or loaded.
	sha256 string
	// settled is closed when a load has ended; err says how.
	settled chan struct{}
	err     error
	// dropped: nobody may take it up any more, the descriptor is closed with the work that still runs on it.
	dropped bool
}

// Info describes one memory.
type Info struct {
	ID        string
	SizeBytes uint64
	Sealed    bool
}

// Store holds memory by template id. Its methods may be called at the same time.
type Store struct {
	mutex   sync.Mutex
	entries map[string]*entry
}

// NewStore makes an empty store.
func NewStore() *Store { return &Store{entries: map[string]*entry{}} }

// Create makes fresh memory of so many bytes, all zero. Errors: ErrExists.
func (s *Store) Create(id string, size uint64) error {
	file, err := newMemory(id, size)
	if err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, ok := s.entries[id]; ok {
		file.Close()
		return ErrExists
	}
	s.entries[id] = &entry{file: file, size: size, state: fresh}
	return nil
}

func newMemory(id string, size uint64) (*os.File, error) {
	if size == 0 || size%4096 != 0 || size > MaxBytes {
		return nil, fmt.Errorf("size of %d bytes: it must be a multiple of 4096, at most %d", size, uint64(MaxBytes))
	}
	fd, err := unix.MemfdCreate("pyro-"+id, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "memfd:"+id)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		file.Close()
		return nil, fmt.Errorf("size memory to %d bytes: %w", size, err)
	}
	return file, nil
}

// Seal makes memory unwritable for ever and saves it sparsely to path, durably and in one step. It returns the digest
// and how many bytes were not zero blocks. Errors: ErrUnknown, ErrBusy (a microVM runs on it).
// Sealing again saves again: a save that failed can be repeated.
func (s *Store) Seal(id, path string) (sha256 string, data uint64, err error) {
	s.mutex.Lock()
	e, ok := s.entries[id]
	switch {
	case !ok:
		s.mutex.Unlock()
		return "", 0, ErrUnknown
	case e.state == working:
		s.mutex.Unlock()
		return "", 0, fmt.Errorf("%w: it is being loaded or sealed", ErrBusy)
	case e.state == fresh && e.users > 0:
		s.mutex.Unlock()
		return "", 0, fmt.Errorf("%w: a microVM still runs on it", ErrBusy)
	}
	before := e.state
	e.state = working
	s.mutex.Unlock()

	after := before
	defer func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		e.state = after
		if err == nil {
			e.sha256 = sha256
		}
		if e.dropped {
			e.file.Close()
		}
	}()
	if before == fresh {
		if err := seal(e.file); err != nil {
			return "", 0, err
		}
		after = sealed
	}
	d, err := save(path, e.file, int64(e.size))
	if err != nil {
		return "", 0, err
	}
	return d.hex(), d.data, nil
}

func seal(file *os.File) error {
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, allSeals); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w: something still maps it for writing", ErrBusy)
		}
		return fmt.Errorf("seal memory: %w", err)
	}
	return nil
}

// save writes beside path and renames, so that path is either absent or whole.
func save(path string, source *os.File, size int64) (d *digest, err error) {
	directory := filepath.Dir(path)
	target, err := os.CreateTemp(directory, "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	defer func() {
		target.Close()
		if err != nil {
			os.Remove(target.Name())
		}
	}()
	if err := target.Truncate(size); err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	if d, err = copySparse(target, source, size); err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	if err := target.Sync(); err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	if err := os.Rename(target.Name(), path); err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	parent, err := os.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	defer parent.Close()
	if err := parent.Sync(); err != nil {
		return nil, fmt.Errorf("save memory: %w", err)
	}
	return d, nil
}

// Load reads saved memory and seals it. It reports false when the same memory was there already; calls for one id at
// the same time read it once. Errors: ErrDigest when the bytes, their number or the digest of the memory that is
// there differ; ErrBusy when memory of that id is being made.
func (s *Store) Load(ctx context.Context, id, path string, size uint64, sha256 string) (bool, error) {
	s.mutex.Lock()
	e, ok := s.entries[id]
	if !ok {
		e = &entry{size: size, state: working, sha256: sha256, settled: make(chan struct{})}
		s.entries[id] = e
		s.mutex.Unlock()
		// Not the caller's context: others may be waiting for the same load.
		file, err := load(id, path, size, sha256)
		s.mutex.Lock()
		defer s.mutex.Unlock()
		e.file, e.err = file, err
		switch {
		case err != nil:
			if s.entries[id] == e {
				delete(s.entries, id)
			}
		case e.dropped:
			file.Close()
			e.err = fmt.Errorf("%w: dropped while it was loaded", ErrBusy)
		default:
			e.state = sealed
		}
		close(e.settled)
		return e.err == nil, e.err
	}
	settled := e.settled
	s.mutex.Unlock()

	if settled != nil {
		select {
		case <-settled:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case e.err != nil:
		return false, e.err
	case e.state != sealed:
		return false, fmt.Errorf("%w: it is being made", ErrBusy)
	case e.size != size:
		return false, fmt.Errorf("%w: the memory held has %d bytes, not %d", ErrDigest, e.size, size)
	case e.sha256 != sha256:
		return false, fmt.Errorf("%w: the memory held has another digest", ErrDigest)
	}
	return false, nil
}

func load(id, path string, size uint64, sha256 string) (*os.File, error) {
	source, _, err := openSaved("load", path, size)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	target, err := newMemory(id, size)
	if err != nil {
		return nil, err
	}
	d, err := copySparse(target, source, int64(size))
	if err == nil && d.hex() != sha256 {
		err = fmt.Errorf("%w: %s has %s, not %s", ErrDigest, path, d.hex(), sha256)
	}
	if err == nil {
		err = seal(target)
	}
	if err != nil {
		target.Close()
		return nil, err
	}
	return target, nil
}

// Drop lets go of memory; microVMs that use it keep it. Dropping what is not there is no error.
func (s *Store) Drop(id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return
	}
	delete(s.entries, id)
	e.dropped = true
	if e.state != working {
		e.file.Close()
	}
}

// Use lends memory to one microVM: a descriptor of its own, and a function to call once, when the microVM has ended.
// Memory that is not sealed can be lent to one at a time. Errors: ErrUnknown, ErrBusy.
func (s *Store) Use(id string) (file *os.File, release func(), err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	e, ok := s.entries[id]
	switch {
	case !ok:
		return nil, nil, ErrUnknown
	case e.state == working:
		return nil, nil, fmt.Errorf("%w: it is being loaded or sealed", ErrBusy)
	case e.state == fresh && e.users > 0:
		return nil, nil, fmt.Errorf("%w: another microVM boots on it", ErrBusy)
	}
	fd, err := unix.FcntlInt(e.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("lend memory: %w", err)
	}
	e.users++
	var once sync.Once
	return os.NewFile(uintptr(fd), e.file.Name()), func() {
		once.Do(func() {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			e.users--
		})
	}, nil
}

// List describes all memory held, by id. What is being loaded is not listed.
func (s *Store) List() []Info {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	list := make([]Info, 0, len(s.entries))
	for id, e := range s.entries {
		if e.file != nil {
			list = append(list, Info{ID: id, SizeBytes: e.size, Sealed: e.state == sealed})
		}
	}
	sort.Slice(list, func(a, b int) bool { return list[a].ID < list[b].ID })
	return list
}
