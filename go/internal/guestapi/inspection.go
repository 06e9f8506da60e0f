// This file owns looking at a workspace's disks without running them, in the protocol's words.
package guestapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/copytree"
	"pyro.dev/pyro/go/internal/files"
	"pyro.dev/pyro/go/internal/rootfs"
)

// copyWaitLimit is how long one CopyDisk may wait.
const copyWaitLimit = 10 * time.Second

// inspection is what a microVM has that looks at disks; its fields are guarded by the server's mu.
type inspection struct {
	// needs is set where nothing could be mounted before a replay.
	needs  *rootfs.NeedsReplay
	disks  *rootfs.Inspection
	view   *files.Disk
	empty  bool
	copied *copying
}

// copying is a copy that is being made. err is set when done is closed.
type copying struct {
	copy *copytree.Copy
	done chan struct{}
	err  error
}

// MountInspection mounts once: what could not be mounted leaves a microVM that is of no use.
func (s *Server) MountInspection(ctx context.Context, request *connect.Request[guestv1.MountInspectionRequest]) (*connect.Response[guestv1.MountInspectionResponse], error) {
	m := request.Msg
	disk, aux := rootfs.Attachment(m.GetDisk()), rootfs.Attachment(m.GetAux())
	if disk != rootfs.ReadOnly && disk != rootfs.Copy {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("disk: must be READ_ONLY or COPY"))
	}
	if aux < rootfs.None || aux > rootfs.Empty {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("aux: is not known"))
	}
	release, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.mu.Lock()
	own, mounted, i := s.identity, s.root != nil, s.inspection
	s.mu.Unlock()
	switch {
	case own == nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("Identify comes before MountInspection"))
	case mounted:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("a root is mounted already"))
	case i == nil:
		i = &inspection{empty: aux == rootfs.Empty}
		if i.disks, err = rootfs.Inspect(m.GetBaseType(), disk, aux); err != nil && !errors.As(err, &i.needs) {
			return nil, mountRefusal(err)
		}
		if i.disks != nil {
			i.view = files.OfDisk(int(i.disks.Root.Fd()))
		}
		s.mu.Lock()
		s.inspection = i
		s.mu.Unlock()
	}
	response := &guestv1.MountInspectionResponse{}
	if i.needs != nil {
		response.DiskNeedsReplay, response.AuxNeedsReplay = i.needs.Disk, i.needs.Aux
	}
	return connect.NewResponse(response), nil
}

// mountRefusal: a disk that cannot be mounted is damaged, whatever the kernel calls that.
func mountRefusal(err error) error {
	if errors.Is(err, rootfs.ErrBaseType) {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return fileRefusal(&files.Refusal{Kind: files.Damaged, Why: fmt.Sprintf("it cannot be mounted: %v", withErrno(err))})
}

// ListDisk tells what is on the disk.
func (s *Server) ListDisk(_ context.Context, request *connect.Request[guestv1.ListDiskRequest]) (*connect.Response[guestv1.ListDiskResponse], error) {
	i, err := s.inspected()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	page, err := i.view.List(m.GetPath(), m.GetRecursive(), m.GetLimit(), m.GetAfter())
	if err != nil {
		return nil, fileRefusal(err)
	}
	response := &guestv1.ListDiskResponse{More: page.More}
	for _, info := range page.Files {
		response.Files = append(response.Files, wireFile(info))
	}
	return connect.NewResponse(response), nil
}

// ReadDisk reads a part of a file of the disk.
func (s *Server) ReadDisk(_ context.Context, request *connect.Request[guestv1.ReadDiskRequest]) (*connect.Response[guestv1.ReadDiskResponse], error) {
	i, err := s.inspected()
	if err != nil {
		return nil, err
	}
	m := request.Msg
	part, err := i.view.Read(m.GetPath(), m.GetOffset(), m.GetMaxBytes())
	if err != nil {
		return nil, fileRefusal(err)
	}
	return connect.NewResponse(&guestv1.ReadDiskResponse{File: wireFile(part.Info), Content: part.Content, More: part.More}), nil
}

// CopyDisk begins the one copy of this microVM, or waits for it.
func (s *Server) CopyDisk(ctx context.Context, request *connect.Request[guestv1.CopyDiskRequest]) (*connect.Response[guestv1.CopyDiskResponse], error) {
	i, err := s.inspected()
	if err != nil {
		return nil, err
	}
	if !i.empty {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("there is no EMPTY aux to copy to"))
	}
	wait := time.Duration(request.Msg.GetWaitMilliseconds()) * time.Millisecond
	if wait > copyWaitLimit {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("wait_milliseconds: at most %d", copyWaitLimit.Milliseconds()))
	}
	s.mu.Lock()
	if i.copied == nil {
		options := copytree.Options{BlankMachineID: request.Msg.GetBlankMachineId()}
		i.copied = &copying{copy: copytree.New(options), done: make(chan struct{})}
		go i.copied.run(i.disks)
	}
	under := i.copied
	s.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	response := &guestv1.CopyDiskResponse{}
	select {
	case <-under.done:
		if under.err != nil {
			return nil, copyRefusal(under.err)
		}
		response.Done = true
	case <-timer.C:
	case <-ctx.Done():
		return nil, answer(ctx.Err())
	}
	response.Entries, response.Bytes = under.copy.Progress()
	return connect.NewResponse(response), nil
}

// run ends with the microVM: nobody waits for a copy that is not wanted any more.
func (c *copying) run(disks *rootfs.Inspection) {
	defer close(c.done)
	if c.err = c.copy.Run(context.Background(), int(disks.Root.Fd()), int(disks.Aux.Fd())); c.err == nil {
		c.err = disks.Release()
	}
}

func copyRefusal(err error) error {
	if copytree.IsFull(err) {
		return fileRefusal(&files.Refusal{Kind: files.Full, Why: fmt.Sprintf("the copy has no room: %v", err)})
	}
	var failed *copytree.Error
	if errors.As(err, &failed) && failed.Reading {
		return fileRefusal(&files.Refusal{Kind: files.Damaged, Path: "/" + failed.Path, Why: fmt.Sprintf("it cannot be read at %v", err)})
	}
	return fileRefusal(&files.Refusal{Kind: files.Failed, Why: fmt.Sprintf("the copy failed: %v", err)})
}

// inspected refuses what is about a disk where none is looked at.
func (s *Server) inspected() (*inspection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		return nil, err
	}
	if s.inspection == nil || s.inspection.disks == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("MountInspection comes before this"))
	}
	return s.inspection, nil
}
