// This file owns what leaves the workspace, comparisons and exports, in the protocol's words.
package guestapi

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/changes"
	"pyro.dev/pyro/go/internal/files"
	"pyro.dev/pyro/go/internal/manifest"
	"pyro.dev/pyro/go/internal/outgoing"
	"pyro.dev/pyro/go/internal/rootfs"
)

const (
	// A piece of changes holds so many of them, or so many bytes of patches, bytes.
	pieceEvents = 500
	pieceBytes  = 256 << 10
	mostPaths   = 1000
)

// BeginChanges begins a comparison.
func (s *Server) BeginChanges(_ context.Context, request *connect.Request[guestv1.BeginChangesRequest]) (*connect.Response[guestv1.BeginChangesResponse], error) {
	of, err := s.lookedAt()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	if len(m.GetPaths()) > mostPaths {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("paths: more than 1000"))
	}
	var paths []string
	for _, given := range m.GetPaths() {
		path, err := files.Relative(given)
		if err != nil {
			return nil, fileRefusal(err)
		}
		paths = append(paths, path)
	}
	id := m.GetOutgoingId()
	err = s.changes.Begin(id, func(ctx context.Context, emit func([]*guestv1.ChangesEvent) error) error {
		batch := &batch{emit: emit}
		summary, err := compare(ctx, of, m, paths, batch.add)
		if err == nil {
			err = batch.flush()
		}
		if err == nil {
			s.told.Store(id, summary)
		}
		return err
	})
	if err != nil {
		return nil, outgoingRefusal(err)
	}
	return connect.NewResponse(&guestv1.BeginChangesResponse{}), nil
}

// compare runs a comparison with all that it needs open.
func compare(ctx context.Context, of *subject, m *guestv1.BeginChangesRequest, paths []string, emit func(changes.Event) error) (changes.Summary, error) {
	tree, err := unix.Open(of.place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return changes.Summary{}, err
	}
	defer unix.Close(tree)
	baseline, err := of.baseline(m.GetBaseline().GetDisk())
	if err != nil {
		return changes.Summary{}, &files.Refusal{Kind: files.Baseline, Why: err.Error()}
	}
	defer baseline.Close()
	comparison := changes.Comparison{Root: tree, Layers: baseline.Layers, Paths: paths, Stat: m.GetStat()}
	if baseline.Manifest != nil {
		comparison.Manifest = baseline.Manifest
		return comparison.Run(ctx, emit)
	}
	listed, list := io.Pipe()
	defer listed.Close()
	go func() { list.CloseWithError(listBase(ctx, baseline.Layers[0], list)) }()
	comparison.Manifest = listed
	return comparison.Run(ctx, emit)
}

// listBase writes a manifest of what the base has for a workspace, as a rule nothing.
func listBase(ctx context.Context, base int, to io.Writer) error {
	writer := manifest.NewWriter(to)
	fd, err := unix.Openat(base, changes.Workspace, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = manifest.Walk(ctx, fd, writer)
	} else if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		err = nil
	}
	if err == nil {
		_, err = writer.Close()
	}
	return err
}

// batch gathers events into pieces.
type batch struct {
	emit  func([]*guestv1.ChangesEvent) error
	held  []*guestv1.ChangesEvent
	bytes int
}

func (b *batch) add(event changes.Event) error {
	told := &guestv1.ChangesEvent{Event: &guestv1.ChangesEvent_Patch{Patch: event.Patch}}
	if event.Change != nil {
		told = &guestv1.ChangesEvent{Event: &guestv1.ChangesEvent_Change{Change: wireChange(event.Change)}}
		b.bytes += len(event.Change.Path)
	}
	b.held = append(b.held, told)
	if b.bytes += len(event.Patch); len(b.held) >= pieceEvents || b.bytes >= pieceBytes {
		return b.flush()
	}
	return nil
}

func (b *batch) flush() error {
	if len(b.held) == 0 {
		return nil
	}
	piece := b.held
	b.held, b.bytes = nil, 0
	return b.emit(piece)
}

func wireChange(change *changes.Change) *guestv1.Change {
	mode := change.NewMode
	if change.Status == changes.Deleted {
		mode = change.OldMode
	}
	return &guestv1.Change{
		Path: []byte(change.Path), Status: guestv1.ChangeStatus(change.Status), Type: guestv1.FileType(files.TypeOf(mode)),
		Text: change.Text, Insertions: change.Insertions, Deletions: change.Deletions,
		OldSize: change.OldSize, NewSize: change.NewSize, Patched: change.Patched,
	}
}

// ReadChanges gives the next piece of a comparison.
func (s *Server) ReadChanges(ctx context.Context, request *connect.Request[guestv1.ReadChangesRequest]) (*connect.Response[guestv1.ReadChangesResponse], error) {
	id := request.Msg.GetOutgoingId()
	events, end, err := s.changes.Read(ctx, id, request.Msg.GetPiece())
	if err != nil {
		return nil, outgoingRefusal(err)
	}
	response := &guestv1.ReadChangesResponse{Events: events, End: end}
	if told, _ := s.told.Load(id); end {
		summary, _ := told.(changes.Summary)
		response.Entries, response.FilesRead = summary.Entries, summary.FilesRead
	}
	return connect.NewResponse(response), nil
}

// BeginExport begins an archive.
func (s *Server) BeginExport(_ context.Context, request *connect.Request[guestv1.BeginExportRequest]) (*connect.Response[guestv1.BeginExportResponse], error) {
	of, err := s.lookedAt()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	id := m.GetOutgoingId()
	err = s.exports.Begin(id, func(ctx context.Context, emit func([]byte) error) error {
		tree, err := files.OpenRoot(of.place)
		if err != nil {
			return err
		}
		defer tree.Close()
		limits := files.Limits{Bytes: m.GetMaxBytes(), Entries: m.GetMaxEntries()}
		exported, err := tree.Export(ctx, m.GetPath(), limits, emit)
		if err == nil {
			s.told.Store(id, exported)
		}
		return err
	})
	if err != nil {
		return nil, outgoingRefusal(err)
	}
	return connect.NewResponse(&guestv1.BeginExportResponse{}), nil
}

// ReadExport gives the next piece of an archive.
func (s *Server) ReadExport(ctx context.Context, request *connect.Request[guestv1.ReadExportRequest]) (*connect.Response[guestv1.ReadExportResponse], error) {
	id := request.Msg.GetOutgoingId()
	data, end, err := s.exports.Read(ctx, id, request.Msg.GetPiece())
	if err != nil {
		return nil, outgoingRefusal(err)
	}
	response := &guestv1.ReadExportResponse{Data: data, End: end}
	if told, _ := s.told.Load(id); end {
		exported, _ := told.(files.Exported)
		response.Type = guestv1.FileType(exported.Type)
		response.EntryCount, response.BytesWritten = exported.Entries, exported.Bytes
		response.SkippedCount = exported.SkippedCount
		for _, one := range exported.Skipped {
			response.Skipped = append(response.Skipped, &guestv1.SkippedFile{Path: []byte(one.Path), Reason: one.Why})
		}
	}
	return connect.NewResponse(response), nil
}

// DropOutgoing ends a comparison or an export.
func (s *Server) DropOutgoing(_ context.Context, request *connect.Request[guestv1.DropOutgoingRequest]) (*connect.Response[guestv1.DropOutgoingResponse], error) {
	id := request.Msg.GetOutgoingId()
	s.changes.Drop(id)
	s.exports.Drop(id)
	s.told.Delete(id)
	return connect.NewResponse(&guestv1.DropOutgoingResponse{}), nil
}

// subject is a workspace that something is taken out of: one that runs, or one whose disks are looked at.
type subject struct {
	// place is the directory that has its tree.
	place    string
	baseline func(withDisk bool) (*rootfs.Baseline, error)
}

// lookedAt refuses what looks at disks where there are none.
func (s *Server) lookedAt() (*subject, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		return nil, err
	}
	if s.root != nil {
		return &subject{place: "/", baseline: s.root.OpenBaseline}, nil
	}
	if s.inspection != nil && s.inspection.disks != nil {
		disks := s.inspection.disks
		return &subject{place: disks.Place(), baseline: disks.OpenBaseline}, nil
	}
	return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("MountRoot or MountInspection comes before what leaves the workspace"))
}

// outgoingRefusal turns what ended a comparison or an export into the protocol's errors.
func outgoingRefusal(err error) error {
	var missing *changes.MissingError
	switch {
	case errors.Is(err, outgoing.ErrInvalid):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, outgoing.ErrUnknown):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, outgoing.ErrBusy):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, outgoing.ErrDropped):
		return connect.NewError(connect.CodeAborted, err)
	case errors.As(err, &missing):
		return fileRefusal(&files.Refusal{Kind: files.Missing, Why: missing.Error(), Path: missing.Path})
	case errors.Is(err, changes.ErrTooMany), errors.Is(err, changes.ErrTooDeep):
		return fileRefusal(&files.Refusal{Kind: files.Limit, Why: err.Error()})
	case errors.Is(err, manifest.ErrFormat):
		return fileRefusal(&files.Refusal{Kind: files.Baseline, Why: err.Error()})
	}
	return fileRefusal(err)
}
