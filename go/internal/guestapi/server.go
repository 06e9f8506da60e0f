// Package guestapi is the guest protocol (proto/pyro/guest/v1) in terms of the packages that do the work. It checks
// the order of things, Identify before MountRoot before processes, and says no in the protocol's words.
//
// This file owns the life of the microVM: hello, identity, root and shutdown.
package guestapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/gen/pyro/guest/v1/guestv1connect"
	"pyro.dev/pyro/go/internal/boot"
	"pyro.dev/pyro/go/internal/files"
	"pyro.dev/pyro/go/internal/identity"
	"pyro.dev/pyro/go/internal/outgoing"
	"pyro.dev/pyro/go/internal/process"
	"pyro.dev/pyro/go/internal/rootfs"
	"pyro.dev/pyro/go/internal/transfer"
	"pyro.dev/pyro/go/internal/tun"
)

// requestLimit bounds a request, bytes: a file or a patch may have 16 MiB.
const requestLimit = 17 << 20

// Server answers the guest protocol.
type Server struct {
	guestv1connect.UnimplementedGuestServiceHandler
	version string
	table   *process.Table
	network *tun.Network

	// change is held, as its one element, while the microVM changes: one of Identify, MountRoot and Shutdown at a time.
	// A disk may take for ever, so who waits for it waits no longer than the caller does.
	change chan struct{}

	// mu guards the rest and is held for no work: Hello always answers.
	mu        sync.Mutex
	bootID    string
	identity  *identity.Identity
	root      *rootfs.Root
	transfers *transfer.Table
	files     *files.Tree
	changes   outgoing.Table[[]*guestv1.ChangesEvent]
	exports   outgoing.Table[[]byte]
	// told are what a comparison and an export say at their ends, by id.
	told sync.Map

	// inspection stands in the place of root, transfers and files.
	inspection *inspection
	down       bool
}

var _ guestv1connect.GuestServiceHandler = (*Server)(nil)

// New returns a server whose processes live in table, and whose packets network carries.
func New(version string, table *process.Table, network *tun.Network) *Server {
	return &Server{version: version, table: table, network: network, change: make(chan struct{}, 1)}
}

// Handler returns the server for HTTP. Messages are not compressed, and nobody reads the date of an answer: the link is
// memory, and the CPU may be emulated.
func (s *Server) Handler() http.Handler {
	_, handler := guestv1connect.NewGuestServiceHandler(s,
		connect.WithCompression("gzip", nil, nil), connect.WithReadMaxBytes(requestLimit))
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		writer.Header()["Date"] = nil
		handler.ServeHTTP(writer, request)
	})
}

// Hello tells who answers.
func (s *Server) Hello(context.Context, *connect.Request[guestv1.HelloRequest]) (*connect.Response[guestv1.HelloResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return connect.NewResponse(&guestv1.HelloResponse{
		Version:     s.version,
		BootId:      s.bootID,
		RootMounted: s.root != nil,
		Identified:  s.identity != nil,
	}), nil
}

// Identify may be called again, with the same or another identity. Below a mounted root its files follow.
func (s *Server) Identify(ctx context.Context, request *connect.Request[guestv1.IdentifyRequest]) (*connect.Response[guestv1.IdentifyResponse], error) {
	given := &identity.Identity{
		Hostname:        request.Msg.GetHostname(),
		MachineID:       request.Msg.GetMachineId(),
		UnixNanoseconds: request.Msg.GetUnixNanoseconds(),
		Entropy:         request.Msg.GetEntropy(),
	}
	if err := given.Validate(); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	bootID, err := given.Apply()
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	given.Entropy = nil
	s.mu.Lock()
	before, mounted := s.identity, s.root != nil
	s.bootID, s.identity = bootID, given
	s.mu.Unlock()
	if mounted {
		writeFiles(given, before)
	}
	return connect.NewResponse(&guestv1.IdentifyResponse{BootId: bootID}), nil
}

// writeFiles writes the identity into the root. A root that has no place for it is the workspace's affair.
func writeFiles(now, before *identity.Identity) {
	if err := now.WriteFiles("", before); err != nil {
		boot.Report("identity files: %v", err)
	}
}

// SetClock sets the wall clock.
func (s *Server) SetClock(_ context.Context, request *connect.Request[guestv1.SetClockRequest]) (*connect.Response[guestv1.SetClockResponse], error) {
	behind, err := identity.SetClock(request.Msg.GetUnixNanoseconds())
	if errors.Is(err, identity.ErrInvalid) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	return connect.NewResponse(&guestv1.SetClockResponse{WasBehindNanoseconds: behind.Nanoseconds()}), nil
}

// MountRoot does nothing when the root is mounted already. Nothing runs before it, so a mount that failed half way is
// taken down under nobody.
func (s *Server) MountRoot(ctx context.Context, request *connect.Request[guestv1.MountRootRequest]) (*connect.Response[guestv1.MountRootResponse], error) {
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	own, mounted, inspected := s.identity, s.root != nil, s.inspection != nil
	s.mu.Unlock()
	if own == nil || inspected {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("Identify comes before MountRoot, and no MountInspection"))
	}
	if mounted {
		return connect.NewResponse(&guestv1.MountRootResponse{}), nil
	}
	laid := false
	root, err := rootfs.Mount(request.Msg.GetBaseType(), func(lower, upper string) (err error) {
		laid, err = own.Lay(lower, upper)
		return err
	})
	if errors.Is(err, rootfs.ErrBaseType) {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, withErrno(err))
	}
	if !laid {
		writeFiles(own, nil)
	}
	transfers, err := transfer.Open("/", root.Writable(), rootfs.Upper, boot.Report)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, withErrno(err))
	}
	tree, err := files.Open("/", transfers)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, withErrno(err))
	}
	s.mu.Lock()
	s.root, s.transfers, s.files = root, transfers, tree
	s.mu.Unlock()
	return connect.NewResponse(&guestv1.MountRootResponse{}), nil
}

// Shutdown answers when the disks are clean; the microVM powers off right after.
func (s *Server) Shutdown(ctx context.Context, _ *connect.Request[guestv1.ShutdownRequest]) (*connect.Response[guestv1.ShutdownResponse], error) {
	release, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	again, root, transfers := s.down, s.root, s.transfers
	s.down = true
	s.mu.Unlock()
	if !again {
		if root != nil {
			// Processes that wait for the disk could not end.
			if _, err := root.Thaw(); err != nil {
				boot.Report("shutdown: %v", err)
			}
		}
		s.table.EndAll(processGrace)
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), outgoingGrace)
		s.changes.Close(closing)
		s.exports.Close(closing)
		done()
		if transfers != nil {
			closing, done := context.WithTimeout(context.WithoutCancel(ctx), transferGrace)
			transfers.Close(closing)
			done()
		}
		if root != nil {
			if err := root.Close(); err != nil {
				boot.Report("shutdown: %v", err)
			}
		}
		boot.Stage("off")
		time.AfterFunc(answerGrace, boot.PowerOff)
	}
	return connect.NewResponse(&guestv1.ShutdownResponse{}), nil
}

const (
	// processGrace is how long processes have between SIGTERM and SIGKILL.
	processGrace = 2 * time.Second
	// transferGrace is how long one that is being put in its place has for it.
	transferGrace = 20 * time.Second
	// outgoingGrace is how long what is being read has to notice that nobody wants it.
	outgoingGrace = 5 * time.Second
	// answerGrace is how long the answer to Shutdown has to leave the microVM.
	answerGrace = 100 * time.Millisecond
)

// hold waits for its turn to change the microVM, for as long as the caller does.
func (s *Server) hold(ctx context.Context) (release func(), err error) {
	select {
	case s.change <- struct{}{}:
		return func() { <-s.change }, nil
	case <-ctx.Done():
		return nil, answer(ctx.Err())
	}
}

// begin is hold, and refuses what comes after Shutdown.
func (s *Server) begin(ctx context.Context) (release func(), err error) {
	release, err = s.hold(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// up refuses what comes after Shutdown. Called with mu.
func (s *Server) up() error {
	if s.down {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the microVM is shutting down"))
	}
	return nil
}
