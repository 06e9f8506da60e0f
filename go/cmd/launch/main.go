// The launcher: it holds sealed template memory, starts VMMs in their sandboxes, and outlives the daemon as they do.
// This file owns the process: flags, lock, socket, signals and the order of the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/gen/pyro/launch/v1/launchv1connect"
	"pyro.dev/pyro/go/internal/confine"
	"pyro.dev/pyro/go/internal/memory"
	"pyro.dev/pyro/go/internal/vmm"
)

// version is set when the program is linked.
var version = "dev"

// maxRequestBytes bounds one message of the daemon.
const maxRequestBytes = 4 << 20

func main() {
	if len(os.Args) > 2 && os.Args[1] == confine.StageName {
		os.Exit(confine.Stage(os.Args[2:]))
	}
	log.SetFlags(log.LstdFlags | log.LUTC | log.Lmsgprefix)
	log.SetPrefix("pyro-launch: ")
	os.Exit(run(os.Args[1:]))
}

type options struct {
	socket, vms string
	grace       time.Duration
}

func parse(args []string) (options, error) {
	flags := flag.NewFlagSet("pyro-launch", flag.ContinueOnError)
	var o options
	var seconds float64
	flags.StringVar(&o.socket, "socket", "", "unix socket to serve on (absolute)")
	flags.StringVar(&o.vms, "vms", "", "directory for the microVMs' directories (absolute)")
	flags.Float64Var(&seconds, "grace-seconds", 60, "how long unclaimed microVMs, and an idle launcher, live on")
	showVersion := flags.Bool("version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *showVersion {
		fmt.Println(version)
		return o, flag.ErrHelp
	}
	o.grace = time.Duration(seconds * float64(time.Second))
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case !cleanAbsolute(o.socket):
		return o, errors.New("--socket must be an absolute path without . or ..")
	case len(o.socket) > maxSocketPath:
		return o, fmt.Errorf("--socket has %d bytes, at most %d are possible", len(o.socket), maxSocketPath)
	case !cleanAbsolute(o.vms) || o.vms == "/":
		return o, errors.New("--vms must be an absolute path without . or ..")
	case strings.HasPrefix(o.socket, o.vms+"/"):
		return o, errors.New("--vms must not hold the socket: the launcher empties it")
	case seconds < 0 || seconds > 86400:
		return o, errors.New("--grace-seconds must be between 0 and 86400")
	}
	return o, nil
}

func cleanAbsolute(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.ContainsRune(path, 0)
}

// run is the program with its exit status: 0 when it ended as it should, 1 for an error, 2 for wrong usage.
func run(args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		log.Print(err)
		return 2
	}
	lock, err := awaitLock(o.socket)
	if errors.Is(err, errServed) {
		log.Printf("another launcher serves %s", o.socket)
		return 0
	}
	if err != nil {
		log.Print(err)
		return 1
	}
	defer lock.release()
	if err := serve(o); err != nil {
		log.Print(err)
		return 1
	}
	return 0
}

func serve(o options) error {
	// A session of its own: the daemon's end, or a terminal's, is not this one's. It fails where that is so already.
	_, _ = unix.Setsid()
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := keepDescriptors(); err != nil {
		return err
	}
	// Caught and dropped rather than ignored: what is ignored stays so in the VMMs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)

	changed := make(chan struct{}, 1)
	store := memory.NewStore()
	registry, err := vmm.NewRegistry(o.vms, store, func() { wake(changed) })
	if err != nil {
		return fmt.Errorf("take over %s: %w", o.vms, err)
	}
	lease := newLease(registry, o.grace, changed)
	listener, err := listen(o.socket)
	if err != nil {
		registry.Shutdown(context.Background())
		return err
	}
	defer os.Remove(o.socket)

	mux := http.NewServeMux()
	mux.Handle(launchv1connect.NewLaunchServiceHandler(
		&service{store: store, checked: memory.NewChecked(), registry: registry, lease: lease},
		connect.WithReadMaxBytes(maxRequestBytes),
	))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: mux, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Printf("version %s, process %d, serves %s", version, os.Getpid(), o.socket)

	idle := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(idle); lease.run(ctx) }()
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-terminate:
		log.Print("terminated")
	case <-idle:
		log.Print("nothing held and nobody there")
	}
	cancel()
	// No new connection finds a launcher that is about to go.
	os.Remove(o.socket)
	end, cancelEnd := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancelEnd()
	registry.Shutdown(end)
	// Whoever is being answered still gets the answer; watchers are let go.
	close(lease.over)
	flush, cancelFlush := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancelFlush()
	if server.Shutdown(flush) != nil {
		server.Close()
	}
	return err
}

// keepDescriptors keeps from VMMs whatever this process was started with: no program that starts a launcher means its
// open files for them.
func keepDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			// One of them is that of the listing itself, gone by now.
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// wake leaves a note for a loop that waits; one note is enough.
func wake(changed chan struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
