// Command labd is PID 1 of the lab's outer guest: it boots once, is frozen, and in every run takes what the host has
// prepared and runs one command. This file owns the order of the boot and what the host may ask for; `scripts/lab` is
// the other end.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/identity"
)

// setup is what the booted guest does once, before it is frozen.
//
//go:embed setup.sh
var setup string

const (
	modules = "/modules"
	// programs are put into /usr/local/bin.
	programs = "/programs"
	port     = "lab"
	path     = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// deviceDeadline is how long drives and port may take to show up under emulation on a loaded host.
	deviceDeadline = 60 * time.Second
	// urgency lets labd answer while the command takes all there is.
	urgency = -15
)

// preparation makes a thawed guest one of its own.
type preparation struct {
	Hostname        string  `json:"hostname"`
	MachineID       string  `json:"machine_id"`
	UnixNanoseconds int64   `json:"unix_nanoseconds"`
	Entropy         []byte  `json:"entropy"`
	Places          []place `json:"places"`
}

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "labd: is the first program of the lab's outer guest and cannot be run elsewhere")
		os.Exit(2)
	}
	if os.Getenv("LAB_SELF_TEST") != "" {
		// The kernel hands its unknown parameters on: a microVM inside the lab boots this same program.
		selfTest()
	}
	stage := "start"
	check := func(err error) {
		if err != nil {
			boot.Fatal(stage, err)
		}
	}
	check(boot.FirstMounts())
	stage = "modules"
	check(boot.LoadModules(modules))
	stage = "root"
	check(enterRoot(time.Now().Add(deviceDeadline)))
	check(os.Setenv("PATH", path))
	check(unix.Setpriority(unix.PRIO_PROCESS, 0, urgency))
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 65536, Max: 1 << 20}))
	table := newChildren()
	go table.reap()
	stage = "setup"
	check(table.run("bash", "-ec", setup))
	stage = "port"
	host, err := openChannel(port, time.Now().Add(deviceDeadline))
	check(err)
	// What the boot wrote is on the disk that every run starts with.
	unix.Sync()
	check(host.send(kindReady, nil))
	stage = "serve"
	boot.Fatal(stage, serve(host, table))
}

// selfTest says that a microVM came this far, and ends it.
func selfTest() {
	_ = boot.FirstMounts()
	fmt.Println("labd: a microVM runs its init")
	// Firecracker ends with its guest's restart; it knows no power to switch off.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	boot.PowerOff()
}

// serve does what the host asks for, one request after the other. It returns only when the port fails.
func serve(host *channel, table *children) error {
	requests := make(chan frame)
	failed := make(chan error, 1)
	go func() { failed <- host.receive(requests) }()
	for {
		var request frame
		select {
		case request = <-requests:
		case err := <-failed:
			return err
		}
		if err := answer(host, table, request); err != nil {
			if err := host.send(kindFailed, []byte(err.Error())); err != nil {
				return err
			}
		}
	}
}

func answer(host *channel, table *children, request frame) error {
	switch request.kind {
	case kindPrepare:
		var asked preparation
		if err := json.Unmarshal(request.body, &asked); err != nil {
			return err
		}
		if err := prepare(&asked, table); err != nil {
			return err
		}
		return host.send(kindPrepared, nil)
	case kindRun:
		var asked command
		if err := json.Unmarshal(request.body, &asked); err != nil {
			return err
		}
		return runCommand(host, table, &asked)
	case kindFetch:
		return fetch(host, table, string(request.body))
	default:
		return fmt.Errorf("there is no request %q", request.kind)
	}
}

func prepare(asked *preparation, table *children) error {
	who := identity.Identity{
		Hostname:        asked.Hostname,
		MachineID:       asked.MachineID,
		UnixNanoseconds: asked.UnixNanoseconds,
		Entropy:         asked.Entropy,
	}
	if err := who.Validate(); err != nil {
		return err
	}
	if _, err := who.Apply(); err != nil {
		return err
	}
	if err := who.WriteFiles("", nil); err != nil {
		return err
	}
	var failed []error
	for index, place := range asked.Places {
		if err := place.fill(index, table); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", place.To, err))
		}
	}
	return errors.Join(failed...)
}
