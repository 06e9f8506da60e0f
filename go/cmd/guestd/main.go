// Command guestd is the program inside a microVM: the initramfs's /init and PID 1 of its life. This file owns the
// order of the boot, the signals of PID 1, and what is served on which port.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/guestapi"
	"pyro.dev/pyro/go/internal/output"
	"pyro.dev/pyro/go/internal/ports"
	"pyro.dev/pyro/go/internal/process"
	"pyro.dev/pyro/go/internal/rootfs"
	"pyro.dev/pyro/go/internal/tun"
)

// version is set by the build.
var version = "dev"

const (
	modules = "/modules"
	// portDeadline is how long the ports may take to show up, under emulation on a loaded host.
	portDeadline = 30 * time.Second
	// memoryLimit is what the Go runtime keeps to, bytes.
	memoryLimit = 96 << 20
	// collectAt is how much the heap grows, per cent, before it is collected. It is small: what a transfer brings passes
	// through it in pieces of 1 MiB, and collecting is dear under emulation. memoryLimit holds all the same.
	collectAt = 500
	// streamLimit is how many calls run at once on one connection.
	streamLimit = 1000
	// openFiles is what a process may have open.
	openFiles = 65536
	// lastSignal is the highest signal number.
	lastSignal = 64
)

func main() {
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == "--version" {
			fmt.Println(version)
			return
		}
		fmt.Fprintln(os.Stderr, "guestd: is the first program of a microVM and cannot be run elsewhere")
		os.Exit(2)
	}
	stage := "start"
	check := func(err error) {
		if err != nil {
			boot.Fatal(stage, err)
		}
	}
	enter := func(name string) {
		stage = name
		boot.Stage(name)
	}

	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(collectAt)
	check(boot.FirstMounts())
	boot.PreferTheEnd()
	enter("modules")
	check(boot.LoadModules(modules))
	unix.Umask(0o022)
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: openFiles, Max: openFiles}))

	enter("root")
	check(rootfs.Prepare())

	table := process.NewTable(process.Config{
		Cgroups: rootfs.Cgroups,
		Store:   output.NewStore(output.DefaultLimits(memory())),
		Report:  boot.Report,
	})
	go signals(table)
	device := &tun.Network{}
	server := guestapi.New(version, table, device)
	check(guestapi.Warm())

	enter("ports")
	deadline := time.Now().Add(portDeadline)
	control, err := ports.Open(ports.Control, deadline)
	check(err)
	network, err := ports.Open(ports.Net, deadline)
	check(err)
	go func() {
		boot.Fatal("net", network.Serve(device.Serve))
	}()

	enter("settle")
	check(boot.WarmUp())
	boot.AwaitClock()

	enter("ready")
	boot.Fatal("control", control.Serve(serve(server.Handler())))
}

// serve returns what speaks HTTP/2, with prior knowledge, on a connection.
func serve(handler http.Handler) func(net.Conn) {
	server := &http2.Server{MaxConcurrentStreams: streamLimit}
	options := &http2.ServeConnOpts{
		Handler: handler,
		// A connection that drops is nothing to report.
		BaseConfig: &http.Server{ErrorLog: log.New(io.Discard, "", 0)},
	}
	return func(conn net.Conn) { server.ServeConn(conn, options) }
}

// signals keeps PID 1 alive whatever it is sent, and calls the reaper for its children. It does not return.
func signals(table *process.Table) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	others := make(chan os.Signal, 1)
	for number := unix.Signal(1); number <= lastSignal; number++ {
		// Not SIGURG: Go's scheduler sends it to itself all the time, and its effect is none.
		if number != unix.SIGCHLD && number != unix.SIGURG {
			signal.Notify(others, number)
		}
	}
	for {
		select {
		case <-children:
			table.Reap()
		case <-others:
		}
	}
}

// memory returns the size of the microVM's memory, bytes, 0 when it cannot be told.
func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}
