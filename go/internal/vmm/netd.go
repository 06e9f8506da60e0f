// This file owns a netd process: how it is started in its sandbox, and how it ends.

package vmm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"pyro.dev/pyro/go/internal/confine"
)

// netd is one that runs.
type netd struct {
	process *os.Process
	// child is a pidfd of process 1 of its sandbox, -1 without one. Guarded by mutex.
	child int
	mutex sync.Mutex
	talk  *talk
	// status is open as long as bwrap is there, which has something to say at its end too.
	status *os.File
	read   sync.WaitGroup
	words  []byte
}

// startNetd starts one. When it fails nothing of it is left.
func (r *Registry) startNetd(v *vm, n *network, port *os.File, kind string) (started *netd, err error) {
	var given []*os.File
	defer func() {
		for _, file := range given {
			file.Close()
		}
	}()
	pipe := func() (*os.File, error) {
		reading, writing, err := os.Pipe()
		if err == nil {
			given = append(given, writing)
		}
		return reading, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	given = append(given, null)
	program, err := os.Open(n.spec.Program)
	if err != nil {
		return nil, err
	}
	given = append(given, program)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	lent, own := os.NewFile(uintptr(pair[0]), "netd"), os.NewFile(uintptr(pair[1]), "netd")
	given = append(given, lent, own)
	conn, err := net.FileConn(own)
	if err != nil {
		return nil, err
	}
	started = &netd{child: -1, talk: &talk{conn: conn, in: bufio.NewReaderSize(conn, maxReport)}}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	decisions, err := pipe()
	if err != nil {
		return nil, err
	}
	words, err := pipe()
	if err != nil {
		decisions.Close()
		return nil, err
	}
	reports, err := pipe()
	if err != nil {
		decisions.Close()
		words.Close()
		return nil, err
	}
	defer reports.Close()
	// Descriptors: 1 decisions, 2 words, 3 port, 4 conversation, 5 program, 6 the stage's report, 7 bwrap's status.
	files := []*os.File{null, given[len(given)-3], given[len(given)-2], port, lent, program, given[len(given)-1]}
	command, args := []string{n.spec.Program, "--port", kind}, []string{"--port", kind}
	var status *os.File
	if v.spec.Confined {
		tools, toolErr := confine.FindTools()
		if err = toolErr; err == nil {
			status, err = pipe()
		}
		if err != nil {
			decisions.Close()
			words.Close()
			return nil, err
		}
		started.status = status
		files = append(files, given[len(given)-1])
		uid := v.uid
		if uid != 0 {
			uid += firstNetworkUID - firstUID
		}
		command = confine.Netd{Tools: tools, UID: uid, StatusFD: 7, ProgramFD: 5, Args: args}.Command()
	}
	if command, err = confine.EnterNetwork(n.spec.Namespace, command); err == nil {
		stage := confine.StageArgs(os.Getpid(), 6, "/", "", netdFiles, nil, command)
		started.process, err = r.spawner.start(stage, files)
	}
	if err != nil {
		decisions.Close()
		words.Close()
		if status != nil {
			status.Close()
		}
		return nil, err
	}
	for _, file := range given {
		file.Close()
	}
	given = nil
	started.follow(n.spec.LogDirectory, decisions, words)
	err = awaitExec(context.Background(), reports)
	if err == nil && status != nil {
		err = started.hold(status)
	}
	if err != nil {
		started.kill()
		return nil, errors.Join(err, started.wait())
	}
	return started, nil
}

// follow writes decisions where they belong, and keeps the first words that netd, or what starts it, has to say.
func (d *netd) follow(directory string, decisions, words *os.File) {
	d.read.Go(func() {
		defer decisions.Close()
		var file *netLog
		if directory != "" {
			var err error
			if file, err = openNetLog(directory); err != nil {
				log.Printf("decisions are not written: %v", err)
				file = nil
			}
		}
		defer file.close()
		file.take(decisions)
	})
	d.read.Go(func() {
		defer words.Close()
		first, _ := io.ReadAll(io.LimitReader(words, maxWords))
		d.words = first
		_, _ = io.Copy(io.Discard, words)
	})
}

// hold learns from bwrap which process is the sandbox's process 1, and takes hold of it.
func (d *netd) hold(status *os.File) error {
	pid, err := childOfSandbox(status, time.Now().Add(setupTime))
	if err != nil {
		return err
	}
	child, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("hold process %d: %w", pid, err)
	}
	if !isChildOf(pid, d.process.Pid) {
		unix.Close(child)
		return errors.New("netd's sandbox has gone")
	}
	d.child = child
	return nil
}

// kill ends it at once. bwrap ends by itself when its sandbox has gone.
func (d *netd) kill() {
	d.talk.conn.Close()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.child < 0 || unix.PidfdSendSignal(d.child, unix.SIGKILL, nil, 0) != nil {
		_ = d.process.Kill()
	}
}

// wait returns, with its last words, when it is gone.
func (d *netd) wait() error {
	state, err := d.process.Wait()
	if d.child >= 0 {
		_ = unix.PidfdSendSignal(d.child, unix.SIGKILL, nil, 0)
		_ = awaitExit(d.child, killTime)
		reap(d.child)
	}
	if d.status != nil {
		d.status.Close()
	}
	d.read.Wait()
	if err != nil {
		return err
	}
	return fmt.Errorf("netd: %s: %s", state, d.words)
}

func (d *netd) close() {
	d.talk.conn.Close()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.child >= 0 {
		unix.Close(d.child)
		d.child = -1
	}
}
