// This file owns the transfers of files and the freezing of the disk in the protocol's words.
package guestapi

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/transfer"
)

// transferLimit is how much one call brings at most, bytes.
const transferLimit = 1 << 20

// BeginTransfer opens a transfer.
func (s *Server) BeginTransfer(_ context.Context, request *connect.Request[guestv1.BeginTransferRequest]) (*connect.Response[guestv1.BeginTransferResponse], error) {
	transfers, err := s.transfersOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	if err := transfers.Begin(m.GetTransferId(), string(m.GetDestination()), m.GetMaxBytes(), m.GetMaxEntries()); err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&guestv1.BeginTransferResponse{}), nil
}

// WriteTransfer takes the next bytes, and waits while the unpacking is behind.
func (s *Server) WriteTransfer(ctx context.Context, request *connect.Request[guestv1.WriteTransferRequest]) (*connect.Response[guestv1.WriteTransferResponse], error) {
	transfers, err := s.transfersOf()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	if len(m.GetData()) > transferLimit {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("data: more than 1 MiB"))
	}
	accepted, err := transfers.Write(ctx, m.GetTransferId(), m.GetOffset(), m.GetData())
	if err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&guestv1.WriteTransferResponse{Offset: accepted}), nil
}

// FinishTransfer answers when everything is in its place.
func (s *Server) FinishTransfer(ctx context.Context, request *connect.Request[guestv1.FinishTransferRequest]) (*connect.Response[guestv1.FinishTransferResponse], error) {
	transfers, err := s.transfersOf()
	if err != nil {
		return nil, err
	}
	result, err := transfers.Finish(ctx, request.Msg.GetTransferId(), request.Msg.GetSize())
	if err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&guestv1.FinishTransferResponse{EntryCount: result.Entries, BytesWritten: result.Bytes}), nil
}

// AbortTransfer drops a transfer that is not being put in its place yet.
func (s *Server) AbortTransfer(ctx context.Context, request *connect.Request[guestv1.AbortTransferRequest]) (*connect.Response[guestv1.AbortTransferResponse], error) {
	transfers, err := s.transfersOf()
	if err != nil {
		return nil, err
	}
	if err := transfers.Abort(ctx, request.Msg.GetTransferId()); err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&guestv1.AbortTransferResponse{}), nil
}

// FreezeDisk answers when the disk is whole and still.
func (s *Server) FreezeDisk(ctx context.Context, request *connect.Request[guestv1.FreezeDiskRequest]) (*connect.Response[guestv1.FreezeDiskResponse], error) {
	transfers, err := s.transfersOf()
	if err != nil {
		return nil, err
	}
	deadline := time.Duration(request.Msg.GetDeadlineMilliseconds()) * time.Millisecond
	if request.Msg.GetDeadlineMilliseconds() > maxFreeze.Milliseconds() || deadline < minFreeze {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("deadline_milliseconds: at least 1000 and at most an hour"))
	}
	// What is half in its place would be frozen so.
	release, err := transfers.Hold(ctx)
	if err != nil {
		return nil, answer(err)
	}
	defer release()
	s.mu.Lock()
	root := s.root
	s.mu.Unlock()
	entries, err := root.Freeze(ctx, deadline, request.Msg.GetWriteManifest())
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.FreezeDiskResponse{ManifestEntries: entries}), nil
}

const (
	minFreeze = time.Second
	maxFreeze = time.Hour
)

// ThawDisk lets writers go on.
func (s *Server) ThawDisk(context.Context, *connect.Request[guestv1.ThawDiskRequest]) (*connect.Response[guestv1.ThawDiskResponse], error) {
	if _, err := s.transfersOf(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	root := s.root
	s.mu.Unlock()
	frozen, err := root.Thaw()
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.ThawDiskResponse{WasFrozen: frozen}), nil
}

// transfersOf refuses transfers where there is no root for them.
func (s *Server) transfersOf() (*transfer.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		return nil, err
	}
	if s.transfers == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("MountRoot comes before transfers"))
	}
	return s.transfers, nil
}

// refusal turns a transfer's error into the protocol's.
func refusal(err error) error {
	var refused *transfer.Refusal
	switch {
	case errors.As(err, &refused) && refused.Kind == transfer.Full:
		return connect.NewError(connect.CodeResourceExhausted, refused)
	case errors.As(err, &refused):
		return connect.NewError(connect.CodeFailedPrecondition, refused)
	case errors.Is(err, transfer.ErrInvalid):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, transfer.ErrUnknown):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, transfer.ErrBusy):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, transfer.ErrAborted):
		return connect.NewError(connect.CodeAborted, err)
	}
	return answer(err)
}
