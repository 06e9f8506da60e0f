// This file owns cgroups: one per microVM where the host lets us make one, version 1 or 2.

package confine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	parentGroup = "pyro"
	mib         = 1 << 20
	// overheadMiB is what a VMM needs beside the guest's memory.
	overheadMiB = 256
	// translationMiB is what pure emulation may keep of translated code, unless told otherwise.
	translationMiB = 1024
	// A VMM may start up to 64 threads for disk requests alone, and ends itself when it cannot.
	baseTasks = 160
	periodUS  = 100_000
)

// Limits of one microVM. Zero MemoryMiB sets no bound on memory.
type Limits struct {
	MemoryMiB uint32
	VCPUs     uint32
	KVM       bool
}

func (l Limits) memoryBytes() uint64 {
	total := uint64(l.MemoryMiB) + overheadMiB
	if !l.KVM {
		total += translationMiB
	}
	return total * mib
}

func (l Limits) tasks() uint64 { return baseTasks + uint64(l.VCPUs) }

// One core more than the guest has is left to the VMM itself.
func (l Limits) quotaUS() uint64 { return (uint64(l.VCPUs) + 1) * periodUS }

// hierarchy is a place where groups can be made.
type hierarchy struct {
	// directory is the pyro group itself.
	directory   string
	unified     bool
	controllers []string
}

// Cgroups makes the groups of one launcher.
type Cgroups struct {
	hierarchies []hierarchy
	// missing says for each controller that cannot be used why.
	missing map[string]string
	prefix  string
}

// Group is the cgroup of one microVM, in as many hierarchies as it takes. A nil Group has none.
type Group struct{ directories []string }

var controllers = []string{"memory", "pids", "cpu"}

// NewCgroups finds where groups can be made, and removes what an earlier launcher of the same prefix left. The prefix
// tells launchers apart.
func NewCgroups(prefix string) *Cgroups {
	c := &Cgroups{missing: map[string]string{}, prefix: prefix + "-"}
	places, err := findPlaces()
	for _, controller := range controllers {
		if err != nil {
			c.missing[controller] = err.Error()
			continue
		}
		c.add(controller, places)
	}
	for _, h := range c.hierarchies {
		left, _ := filepath.Glob(filepath.Join(h.directory, c.prefix+"*"))
		for _, directory := range left {
			// The VMMs of a launcher that was killed die with it, which takes them a moment: their groups are busy so long.
			group := &Group{[]string{directory}}
			group.KillRest()
			_ = group.Remove()
		}
	}
	return c
}

// add makes the parent group for a controller, or notes why it cannot.
func (c *Cgroups) add(controller string, places places) {
	if own, ok := places.v1[controller]; ok {
		directory := filepath.Join(own, parentGroup)
		if err := makeGroup(directory); err != nil {
			c.missing[controller] = err.Error()
			return
		}
		for i, h := range c.hierarchies {
			if h.directory == directory {
				c.hierarchies[i].controllers = append(h.controllers, controller)
				return
			}
		}
		c.hierarchies = append(c.hierarchies, hierarchy{directory, false, []string{controller}})
		return
	}
	for i, h := range c.hierarchies {
		if h.unified && enable(h.directory, controller) == nil {
			c.hierarchies[i].controllers = append(h.controllers, controller)
			return
		}
	}
	reason := "no cgroup hierarchy has the controller"
	// The nearest group above that hands the controller on to its children: our own holds processes, so it cannot.
	for directory := places.v2; strings.HasPrefix(directory, places.v2Mount) && places.v2Mount != ""; directory = filepath.Dir(directory) {
		if !slices.Contains(words(filepath.Join(directory, "cgroup.subtree_control")), controller) {
			continue
		}
		parent := filepath.Join(directory, parentGroup)
		err := makeGroup(parent)
		if err == nil {
			err = enable(parent, controller)
		}
		if err == nil {
			c.hierarchies = append(c.hierarchies, hierarchy{parent, true, []string{controller}})
			return
		}
		reason = err.Error()
	}
	c.missing[controller] = reason
}

func makeGroup(directory string) error {
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return unix.Access(directory, unix.W_OK)
}

func enable(directory, controller string) error {
	return os.WriteFile(filepath.Join(directory, "cgroup.subtree_control"), []byte("+"+controller), 0)
}

func words(file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// Limits tells what microVMs are bounded in, and in notes, one sentence each, what they cannot be bounded in.
func (c *Cgroups) Limits() (bounded, notes []string) {
	for _, controller := range controllers {
		if reason, ok := c.missing[controller]; ok {
			notes = append(notes, fmt.Sprintf("%s is not bounded: %s", controller, reason))
		} else {
			bounded = append(bounded, controller)
		}
	}
	return bounded, notes
}

// Make makes the group of a microVM. What could not be bounded is in the notes, one sentence each.
func (c *Cgroups) Make(name string, limits Limits) (*Group, []string) {
	_, notes := c.Limits()
	group := &Group{}
	for _, h := range c.hierarchies {
		directory := filepath.Join(h.directory, c.prefix+name)
		// The parent may have been removed by another launcher that ended.
		os.Mkdir(h.directory, 0o755)
		for _, controller := range h.controllers {
			if h.unified {
				enable(h.directory, controller)
			}
		}
		if err := makeGroup(directory); err != nil {
			notes = append(notes, fmt.Sprintf("%s is not bounded: %v", strings.Join(h.controllers, ", "), err))
			continue
		}
		group.directories = append(group.directories, directory)
		for _, controller := range h.controllers {
			if err := setLimit(directory, controller, h.unified, limits); err != nil {
				notes = append(notes, fmt.Sprintf("%s is not bounded: %v", controller, err))
			}
		}
	}
	return group, notes
}

func setLimit(directory, controller string, unified bool, limits Limits) error {
	set := func(file string, value any) error {
		return os.WriteFile(filepath.Join(directory, file), []byte(fmt.Sprint(value)), 0)
	}
	switch {
	case controller == "memory" && limits.MemoryMiB == 0:
		return errors.New("no size was given")
	case controller == "memory" && unified:
		// A VMM with one thread killed is of no use: all of it goes.
		_ = set("memory.oom.group", 1)
		return set("memory.max", limits.memoryBytes())
	case controller == "memory":
		if err := set("memory.limit_in_bytes", limits.memoryBytes()); err != nil {
			return err
		}
		// Absent on kernels without swap accounting.
		_ = set("memory.memsw.limit_in_bytes", limits.memoryBytes())
		return nil
	case controller == "pids":
		return set("pids.max", limits.tasks())
	case unified:
		return set("cpu.max", fmt.Sprintf("%d %d", limits.quotaUS(), periodUS))
	}
	if err := set("cpu.cfs_period_us", periodUS); err != nil {
		return err
	}
	return set("cpu.cfs_quota_us", limits.quotaUS())
}

// Files are what a process writes itself into to join.
func (g *Group) Files() []string {
	var files []string
	for _, directory := range g.directories {
		files = append(files, filepath.Join(directory, "cgroup.procs"))
	}
	return files
}

// Joined tells which groups a process is not in, as notes.
func (g *Group) Joined(pid int) []string {
	var notes []string
	for _, file := range g.Files() {
		if !slices.Contains(words(file), strconv.Itoa(pid)) {
			notes = append(notes, fmt.Sprintf("limits of %s do not hold: the VMM could not be put there", filepath.Dir(file)))
		}
	}
	return notes
}

// KillRest ends whatever is still in the group.
func (g *Group) KillRest() {
	for _, file := range g.Files() {
		for _, word := range words(file) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// Remove removes the group, trying for a second: the kernel may still be at the end of a process.
func (g *Group) Remove() error {
	deadline := time.Now().Add(time.Second)
	for i := 0; i < len(g.directories); {
		err := unix.Rmdir(g.directories[i])
		if err == nil || errors.Is(err, unix.ENOENT) {
			i++
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", g.directories[i], err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// Close removes the parent groups that are empty.
func (c *Cgroups) Close() {
	for _, h := range c.hierarchies {
		unix.Rmdir(h.directory)
	}
}

// places are the launcher's own groups: by controller in version 1, and the one in version 2 with its mount.
type places struct {
	v1          map[string]string
	v2, v2Mount string
}

func findPlaces() (places, error) {
	found := places{v1: map[string]string{}}
	own := map[string]string{}
	if err := eachLine("/proc/self/cgroup", func(line string) {
		// 4:memory:/path, and 0::/path for version 2.
		if parts := strings.SplitN(line, ":", 3); len(parts) == 3 {
			for _, controller := range strings.Split(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}); err != nil {
		return found, err
	}
	err := eachLine("/proc/self/mountinfo", func(line string) {
		// 36 35 98:0 ROOT MOUNT options - TYPE source super-options
		left, right, ok := strings.Cut(line, " - ")
		fields, last := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(last) < 3 {
			return
		}
		root, mount := fields[3], fields[4]
		below := func(path string) string {
			// In a container the mount may show only a part, and the path be relative to another.
			rest, ok := strings.CutPrefix(path, root)
			if !ok {
				rest = ""
			}
			return filepath.Join(mount, rest)
		}
		switch last[0] {
		case "cgroup2":
			if path, ok := own[""]; ok && found.v2Mount == "" {
				found.v2, found.v2Mount = below(path), mount
			}
		case "cgroup":
			for _, option := range strings.Split(last[2], ",") {
				path, ok := own[option]
				if _, have := found.v1[option]; ok && !have && slices.Contains(controllers, option) {
					found.v1[option] = below(path)
				}
			}
		}
	})
	return found, err
}

func eachLine(path string, use func(string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		use(scanner.Text())
	}
	return scanner.Err()
}
