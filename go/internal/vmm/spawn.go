// This file owns the fork: processes are started from one thread that lives as long as the launcher.

package vmm

import (
	"os"
	"runtime"
	"syscall"
)

// spawner starts processes that die with the launcher. The kernel's parent-death signal follows the thread that
// forked, and Go ends idle threads; so one goroutine keeps its thread for ever and does every fork.
type spawner struct{ requests chan spawnRequest }

type spawnRequest struct {
	args  []string
	files []*os.File
	reply chan spawnReply
}

type spawnReply struct {
	process *os.Process
	err     error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawnRequest)}
	go func() {
		runtime.LockOSThread()
		for request := range s.requests {
			// Our own program by the kernel's link to it: the file may have been replaced since.
			process, err := os.StartProcess("/proc/self/exe", request.args, &os.ProcAttr{
				Dir:   "/",
				Env:   []string{},
				Files: request.files,
				Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
			})
			request.reply <- spawnReply{process, err}
		}
	}()
	return s
}

// start runs the launcher's own program with args; files become its descriptors 0, 1, 2, ...
func (s *spawner) start(args []string, files []*os.File) (*os.Process, error) {
	request := spawnRequest{args, files, make(chan spawnReply, 1)}
	s.requests <- request
	reply := <-request.reply
	return reply.process, reply.err
}
