// This file owns the methods about services: whether one is ready, and the end of its tree.
package guestapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/process"
	"pyro.dev/pyro/go/internal/readiness"
)

const (
	// lookLimit is how long one look at a service may take.
	lookLimit = 60 * time.Second
	// graceLimit is the longest grace time.
	graceLimit = 24 * time.Hour
)

// StopProcess waits until the process's tree has ended.
func (s *Server) StopProcess(ctx context.Context, request *connect.Request[guestv1.StopProcessRequest]) (*connect.Response[guestv1.StopProcessResponse], error) {
	milliseconds := request.Msg.GetGraceMilliseconds()
	if milliseconds < 0 || milliseconds > graceLimit.Milliseconds() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("grace_milliseconds: must be 0 to %d", graceLimit.Milliseconds()))
	}
	found, err := s.table.Get(request.Msg.GetProcessId())
	if err != nil {
		return nil, answer(err)
	}
	if err := found.Stop(ctx, time.Duration(milliseconds)*time.Millisecond); err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.StopProcessResponse{}), nil
}

// ProbeReadiness looks once.
func (s *Server) ProbeReadiness(ctx context.Context, request *connect.Request[guestv1.ProbeReadinessRequest]) (*connect.Response[guestv1.ProbeReadinessResponse], error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	milliseconds := request.Msg.GetTimeoutMilliseconds()
	if milliseconds < 1 || milliseconds > lookLimit.Milliseconds() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("timeout_milliseconds: must be 1 to %d", lookLimit.Milliseconds()))
	}
	looking, done := context.WithTimeout(ctx, time.Duration(milliseconds)*time.Millisecond)
	defer done()
	err := s.look(looking, request.Msg)
	switch {
	case err == nil:
		return connect.NewResponse(&guestv1.ProbeReadinessResponse{Ready: true}), nil
	case ctx.Err() != nil:
		return nil, answer(ctx.Err())
	case connect.CodeOf(err) == connect.CodeInvalidArgument:
		return nil, err
	}
	return connect.NewResponse(&guestv1.ProbeReadinessResponse{Reason: readiness.Reason(err)}), nil
}

// look returns nil when the service is ready, an error of the protocol's for what cannot be looked at, else the reason.
func (s *Server) look(ctx context.Context, message *guestv1.ProbeReadinessRequest) error {
	invalid := func(err error) error { return connect.NewError(connect.CodeInvalidArgument, err) }
	switch probe := message.GetProbe().(type) {
	case *guestv1.ProbeReadinessRequest_File:
		path := string(probe.File)
		if path == "" || path[0] != '/' {
			return invalid(errors.New("file: must be an absolute path"))
		}
		return readiness.File(ctx, path)
	case *guestv1.ProbeReadinessRequest_Tcp:
		if err := readiness.ValidAddress(probe.Tcp); err != nil {
			return invalid(fmt.Errorf("tcp: %w", err))
		}
		return readiness.TCP(ctx, probe.Tcp)
	case *guestv1.ProbeReadinessRequest_Http:
		if err := readiness.ValidURL(probe.Http); err != nil {
			return invalid(fmt.Errorf("http: %w", err))
		}
		return readiness.HTTP(ctx, probe.Http)
	case *guestv1.ProbeReadinessRequest_Command:
		err := readiness.Command(ctx, s.table, probe.Command.GetArgv(), probe.Command.GetEnv(), string(probe.Command.GetCwd()))
		if errors.Is(err, process.ErrInvalid) {
			return invalid(fmt.Errorf("command: %w", err))
		}
		return err
	}
	return invalid(errors.New("probe: missing"))
}
