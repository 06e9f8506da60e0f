// Package vmm owns the VMM processes: it starts them, waits for them, ends them and tells who watches.
package vmm

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/confine"
	"pyro.dev/pyro/go/internal/memory"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrExists: a microVM of that id runs.
	ErrExists = errors.New("a microVM of that id runs already")
	// ErrUnknown: no microVM of that id runs.
	ErrUnknown = errors.New("no microVM of that id runs")
	// ErrClosing: the launcher is about to end.
	ErrClosing = errors.New("the launcher is ending")
	// ErrConfinement: the sandbox could not be made.
	ErrConfinement = errors.New("confinement")
	// ErrLabels: there would be more labels than a microVM may have.
	ErrLabels = errors.New("too many labels")
	// ErrMonitor: the VMM's monitor did not do what was asked.
	ErrMonitor = errors.New("monitor")
)

const (
	// rememberEnded is how long a microVM that ended by itself stays listed.
	rememberEnded = 60 * time.Second
	// Users of confined microVMs. Launchers of other directories take other ranges.
	firstUID  = 1_900_000_000
	uidRanges = 4096
	slots     = 1024
	// Users of networks lie behind all of those: no VMM has one's user.
	firstNetworkUID = firstUID + uidRanges*slots
)

// Spec is what a microVM is started with. Its values have been checked.
type Spec struct {
	ID         string
	Program    string
	Args       []string
	ReadOnly   []string
	TemplateID string
	Files      []File
	// Ports are the names of guest ports; each becomes a connected socket of the VMM, behind its files.
	Ports     []string
	Ephemeral bool
	Confined  bool
	KVM       bool
	MemoryMiB uint32
	VCPUs     uint32
	Labels    map[string]string
	// Jailer is the program that confines the VMM where it is confined and the launcher is root.
	Jailer string
}

// Info describes a microVM at one moment.
type Info struct {
	ID        string
	PID       int
	Directory string
	// Root is the VMM's present directory, as the host sees it.
	Root       string
	Ephemeral  bool
	Running    bool
	ExitCode   int
	Signal     int
	Confined   bool
	TemplateID string
	Labels     map[string]string
	LimitNotes []string
}

// Registry holds the microVMs of one launcher. Its methods may be called at the same time.
type Registry struct {
	directory string
	memory    *memory.Store
	cgroups   *confine.Cgroups
	spawner   *spawner
	// changed is called, without locks held, whenever a microVM has ended or its start has failed.
	changed func()

	mutex    sync.Mutex
	vms      map[string]*vm
	slots    [slots]bool
	uidBase  uint32
	watchers map[*Watcher]struct{}
	closing  bool
	// asides counts the directories that were set aside.
	asides int
}

// NewRegistry takes over the directory, which must be this launcher's alone: what an earlier one left is removed.
func NewRegistry(directory string, store *memory.Store, changed func()) (*Registry, error) {
	if err := os.MkdirAll(directory, 0o711); err != nil {
		return nil, err
	}
	// Users of microVMs pass through it, whatever the umask was.
	if err := os.Chmod(directory, 0o711); err != nil {
		return nil, err
	}
	left, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	for _, entry := range left {
		if err := os.RemoveAll(filepath.Join(directory, entry.Name())); err != nil {
			return nil, err
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the subreaper: %w", err)
	}
	name := fnv.New32a()
	name.Write([]byte(directory))
	return &Registry{
		directory: directory,
		memory:    store,
		cgroups:   confine.NewCgroups(hex32(name.Sum32())),
		spawner:   newSpawner(),
		changed:   changed,
		vms:       map[string]*vm{},
		uidBase:   firstUID + name.Sum32()%uidRanges*slots,
		watchers:  map[*Watcher]struct{}{},
	}, nil
}

// Limits tells what microVMs are bounded in here, and why not in the rest.
func (r *Registry) Limits() (bounded, notes []string) { return r.cgroups.Limits() }

func hex32(value uint32) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 8)
	for i := range text {
		text[7-i] = digits[value>>(4*i)&15]
	}
	return string(text)
}

// List describes every microVM that runs or ended within the last minute, by id.
func (r *Registry) List() []Info {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.list()
}

func (r *Registry) list() []Info {
	list := make([]Info, 0, len(r.vms))
	for _, v := range r.vms {
		if v.info.PID != 0 {
			list = append(list, v.snapshot())
		}
	}
	sort.Slice(list, func(a, b int) bool { return list[a].ID < list[b].ID })
	return list
}

// Running is how many microVMs run or are being started.
func (r *Registry) Running() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.running()
}

func (r *Registry) running() int {
	count := 0
	for _, v := range r.vms {
		if !v.over {
			count++
		}
	}
	return count
}

// Watcher receives the microVMs that end.
type Watcher struct {
	// Ended is closed when the watcher fell too far behind.
	Ended chan Info
}

// Watch begins to watch, and tells the state at that very moment.
func (r *Registry) Watch() (*Watcher, []Info) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	w := &Watcher{Ended: make(chan Info, 1024)}
	r.watchers[w] = struct{}{}
	return w, r.list()
}

// Unwatch ends watching.
func (r *Registry) Unwatch(w *Watcher) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.watchers, w)
}

func (r *Registry) publish(info Info) {
	for w := range r.watchers {
		select {
		case w.Ended <- info:
		default:
			close(w.Ended)
			delete(r.watchers, w)
		}
	}
}

// Close refuses further starts if nothing runs; it reports whether that is so.
func (r *Registry) Close() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.running() == 0 {
		r.closing = true
	}
	return r.closing
}

// Shutdown refuses further starts, ends every microVM, and removes all directories and cgroups.
func (r *Registry) Shutdown(ctx context.Context) {
	r.mutex.Lock()
	r.closing = true
	r.mutex.Unlock()
	r.killAll(ctx, func(*vm) bool { return true })
	if left, err := os.ReadDir(r.directory); err == nil {
		for _, entry := range left {
			os.RemoveAll(filepath.Join(r.directory, entry.Name()))
		}
	}
	os.Remove(r.directory)
	r.cgroups.Close()
}

// Keep makes a microVM one that lives on unclaimed, and adds labels to its own. Once it has succeeded KillEphemeral ends
// the microVM no more; one whose end was decided before is not kept. Errors: ErrUnknown, ErrLabels, that of ctx.
func (r *Registry) Keep(ctx context.Context, id string, labels map[string]string, maxLabels int) error {
	r.mutex.Lock()
	v, ok := r.vms[id]
	r.mutex.Unlock()
	if !ok {
		return ErrUnknown
	}
	select {
	case <-v.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if v.over || v.doomed {
		return ErrUnknown
	}
	merged := maps.Clone(v.info.Labels)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, labels)
	if len(merged) > maxLabels {
		return fmt.Errorf("%w: %d, at most %d", ErrLabels, len(merged), maxLabels)
	}
	v.spec.Ephemeral, v.info.Ephemeral = false, false
	v.spec.Labels, v.info.Labels = merged, merged
	return nil
}

// KillEphemeral ends the microVMs that live only while they are claimed, and removes their directories.
func (r *Registry) KillEphemeral(ctx context.Context) {
	r.killAll(ctx, func(v *vm) bool { return v.spec.Ephemeral })
}

func (r *Registry) killAll(ctx context.Context, which func(*vm) bool) {
	r.mutex.Lock()
	var ids []string
	for id, v := range r.vms {
		if which(v) {
			v.doomed = true
			ids = append(ids, id)
		}
	}
	r.mutex.Unlock()
	var group sync.WaitGroup
	for _, id := range ids {
		group.Go(func() { _ = r.Kill(ctx, id) })
	}
	group.Wait()
}

func (v *vm) snapshot() Info {
	info := v.info
	info.Labels = maps.Clone(info.Labels)
	return info
}
