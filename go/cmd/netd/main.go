// Command netd is the network of one microVM: the launcher starts it, confined, for a workspace that may reach something.
// This file owns the process: its descriptors, the conversation with the launcher, and the way to the guest's port.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	gvisor "gvisor.dev/gvisor/pkg/log"

	"pyro.dev/pyro/go/internal/broker"
	"pyro.dev/pyro/go/internal/link"
	"pyro.dev/pyro/go/internal/netd"
)

// version is set when the program is linked.
var version = "dev"

const (
	// Descriptors: a connection to the guest's port, and the launcher. Decisions go to stdout.
	portFD    = 3
	controlFD = 4
	// memoryLimit is what the Go runtime keeps to as long as it can, bytes.
	memoryLimit = 256 << 20
	maxMessage  = 1 << 20
	// openTime is how long a guest may take to answer at its port.
	openTime = 2 * time.Minute
	// vsockPort is the net port's number where ports are vsock's.
	vsockPort = 1025
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("pyro-netd: ")
	showVersion := flag.Bool("version", false, "print the version")
	authority := flag.String("authority", "", "print a new authority for these hosts (a comma between two) and end")
	port := flag.String("port", "serial", "how the guest's port is reached: serial (the frame layer) or vsock")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	if *authority != "" {
		if err := printAuthority(os.Stdout, strings.Split(*authority, ",")); err != nil {
			log.Fatal(err)
		}
		return
	}
	// What the stack has to say is about a guest's packets, and as much as the guest likes.
	gvisor.SetTarget(gvisor.GoogleEmitter{Writer: &gvisor.Writer{Next: io.Discard}})
	debug.SetMemoryLimit(memoryLimit)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT)
	if err := run(*port); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func run(kind string) error {
	stream, err := connection(portFD)
	if err != nil {
		return err
	}
	control, err := connection(controlFD)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	carrier := &carrier{opened: make(chan struct{}), ctx: ctx}
	network, err := netd.New(carrier, netd.NewJournal(os.Stdout))
	if err != nil {
		return err
	}
	go func() { cancel(fmt.Errorf("the launcher has gone: %w", converse(control, network))) }()
	go func() {
		opening, done := context.WithTimeout(ctx, openTime)
		defer done()
		if err := carrier.open(opening, kind, stream); err != nil {
			cancel(fmt.Errorf("the guest's port: %w", err))
		}
	}()
	err = network.Run(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("ended: %w", err)
}

// printAuthority makes the authority of a workspace, whose key nobody has yet but who asked for it.
func printAuthority(out io.Writer, hosts []string) error {
	made, err := broker.NewAuthority(hosts)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(made)
}

func connection(fd uintptr) (net.Conn, error) {
	unix.CloseOnExec(int(fd))
	file := os.NewFile(fd, "inherited")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return conn, nil
}

// request is a line of the launcher's; the answer is a line with a Report.
type request struct {
	// Config is a new configuration; without one what there is is told.
	Config *netd.Config `json:"config"`
	// Resolvers are name servers in the place of the configuration's.
	Resolvers []string `json:"resolvers"`
}

// converse answers the launcher until it goes.
func converse(control net.Conn, network *netd.Network) error {
	in := bufio.NewScanner(control)
	in.Buffer(nil, maxMessage)
	for in.Scan() {
		var asked request
		report := netd.Report{}
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			report.Error = err.Error()
		} else if asked.Config != nil {
			report = network.Configure(*asked.Config)
		} else if asked.Resolvers != nil {
			report = network.UseResolvers(asked.Resolvers)
		} else {
			report = network.Report()
		}
		line, err := json.Marshal(report)
		if err != nil {
			return err
		}
		if _, err := control.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	return io.EOF
}

// carrier is the stream of packets, which may be used before it is there.
type carrier struct {
	ctx    context.Context
	opened chan struct{}
	stream io.ReadWriter
}

// open gets through to the guest. The first bytes, a packet of no length, make the guest serve the session.
func (c *carrier) open(ctx context.Context, kind string, conn net.Conn) error {
	var stream io.ReadWriter = conn
	var err error
	switch kind {
	case "serial":
		stream, err = link.Dial(ctx, conn)
	case "vsock":
		err = dialVsock(ctx, conn)
	default:
		err = errors.New("unknown kind of port " + kind)
	}
	if err != nil {
		return err
	}
	if _, err := stream.Write([]byte{0, 0}); err != nil {
		return err
	}
	c.stream = stream
	close(c.opened)
	return nil
}

// dialVsock asks Firecracker's socket for the port.
func dialVsock(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", vsockPort); err != nil {
		return err
	}
	// Byte by byte: what follows the line is the guest's.
	var line strings.Builder
	for one := []byte{0}; line.Len() < 64; {
		if _, err := conn.Read(one); err != nil {
			return err
		}
		if one[0] == '\n' {
			if strings.HasPrefix(line.String(), "OK ") {
				return nil
			}
			break
		}
		line.WriteByte(one[0])
	}
	return fmt.Errorf("the VMM answered %q", line.String())
}

func (c *carrier) wait() (io.ReadWriter, error) {
	select {
	case <-c.opened:
		return c.stream, nil
	case <-c.ctx.Done():
		return nil, io.EOF
	}
}

// Read waits for the stream and reads it.
func (c *carrier) Read(buffer []byte) (int, error) {
	stream, err := c.wait()
	if err != nil {
		return 0, err
	}
	return stream.Read(buffer)
}

// Write waits for the stream and writes to it.
func (c *carrier) Write(data []byte) (int, error) {
	stream, err := c.wait()
	if err != nil {
		return 0, err
	}
	return stream.Write(data)
}
