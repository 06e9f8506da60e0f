// This file owns the guest's processes: starting one, and reaping all that end, as PID 1 must.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

type children struct {
	mutex sync.Mutex
	// waiting are those whose end somebody wants to know, by pid.
	waiting map[int]chan int
	// started is told when there may be something to wait for again.
	started chan struct{}
}

func newChildren() *children {
	return &children{waiting: map[int]chan int{}, started: make(chan struct{}, 1)}
}

// spawn describes a process. Files are its descriptors from 0 on.
type spawn struct {
	argv  []string
	env   []string
	cwd   string
	files []*os.File
}

// start begins a process in a session of its own. Its exit status comes on the channel, 128 and the signal's number
// when one ended it.
func (c *children) start(what spawn) (<-chan int, error) {
	program, err := exec.LookPath(what.argv[0])
	if err != nil {
		return nil, err
	}
	files := make([]uintptr, len(what.files))
	for index, file := range what.files {
		files[index] = file.Fd()
	}
	ended := make(chan int, 1)
	// Held until its pid is known, so that the reaper does not meet it first.
	c.mutex.Lock()
	defer c.mutex.Unlock()
	pid, err := syscall.ForkExec(program, what.argv, &syscall.ProcAttr{
		Dir:   what.cwd,
		Env:   what.env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what.argv[0], err)
	}
	c.waiting[pid] = ended
	select {
	case c.started <- struct{}{}:
	default:
	}
	return ended, nil
}

// run waits for a program to succeed; what it says goes to the console.
func (c *children) run(argv ...string) error {
	ended, err := c.start(spawn{argv: argv, env: os.Environ(), cwd: "/", files: []*os.File{os.Stdin, os.Stderr, os.Stderr}})
	if err != nil {
		return err
	}
	if status := <-ended; status != 0 {
		return fmt.Errorf("%s: status %d", strings.Join(argv[:min(len(argv), 3)], " "), status)
	}
	return nil
}

// reap waits for every child there is, orphans too. It does not return.
func (c *children) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			<-c.started
			continue
		}
		if err != nil {
			continue
		}
		c.mutex.Lock()
		ended := c.waiting[pid]
		delete(c.waiting, pid)
		c.mutex.Unlock()
		if ended == nil {
			continue
		}
		if status.Signaled() {
			ended <- 128 + int(status.Signal())
		} else {
			ended <- status.ExitStatus()
		}
	}
}
