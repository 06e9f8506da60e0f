// This file owns the methods about processes.
package guestapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
	"pyro.dev/pyro/go/internal/output"
	"pyro.dev/pyro/go/internal/process"
)

// inputLimit is the most bytes of one input request.
const inputLimit = 256 << 10

// endTreeLimit is the longest time that an end of a tree is put off.
const endTreeLimit = time.Hour

const (
	// chunkLimit is the most bytes of one output message: a link that drops often must get some of them through.
	chunkLimit = 32 << 10
	// smallChunk is the size below which more output is gathered before the next message, bytes: a terminal gives a
	// line at a time, and a message costs far more than a line.
	smallChunk = 4 << 10
	gatherTime = 2 * time.Millisecond
)

// StartProcess starts a process once.
func (s *Server) StartProcess(_ context.Context, request *connect.Request[guestv1.StartProcessRequest]) (*connect.Response[guestv1.StartProcessResponse], error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	message := request.Msg
	milliseconds := message.GetTimeoutMilliseconds()
	if milliseconds > math.MaxInt64/int64(time.Millisecond) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("timeout_milliseconds: too large"))
	}
	size, err := terminalSize(message.GetTty())
	if err != nil {
		return nil, err
	}
	started, err := s.table.Start(process.Spec{
		ID:        message.GetProcessId(),
		Argv:      message.GetArgv(),
		Env:       message.GetEnv(),
		Cwd:       string(message.GetCwd()),
		User:      message.GetUser(),
		TTY:       size,
		NoStdin:   message.GetNoStdin(),
		Timeout:   time.Duration(milliseconds) * time.Millisecond,
		WholeTree: message.GetWholeTree(),
	})
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.StartProcessResponse{Process: describe(started.State())}), nil
}

// ReadOutput sends output as it comes.
func (s *Server) ReadOutput(ctx context.Context, request *connect.Request[guestv1.ReadOutputRequest], stream *connect.ServerStream[guestv1.ReadOutputResponse]) (err error) {
	found, err := s.table.Get(request.Msg.GetProcessId())
	if err != nil {
		return answer(err)
	}
	reader, err := found.Log().Attach(request.Msg.GetCursor())
	if err != nil {
		return answer(err)
	}
	defer func() { reader.Detach(err != nil) }()
	buffer := make([]byte, chunkLimit)
	for {
		chunk, err := reader.Next(ctx, buffer)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return answer(err)
		}
		err = stream.Send(&guestv1.ReadOutputResponse{Event: &guestv1.ReadOutputResponse_Chunk{Chunk: &guestv1.OutputChunk{
			Cursor: chunk.Cursor,
			Stream: wireStream(chunk.Stream),
			Data:   chunk.Data,
		}}})
		if err != nil {
			return err
		}
		reader.Took(chunk)
		if len(chunk.Data) < smallChunk {
			reader.Gather(gatherTime)
		}
	}
	return stream.Send(&guestv1.ReadOutputResponse{Event: &guestv1.ReadOutputResponse_Exited{Exited: describe(found.State())}})
}

// WriteInput waits until the process's buffer has taken the bytes.
func (s *Server) WriteInput(ctx context.Context, request *connect.Request[guestv1.WriteInputRequest]) (*connect.Response[guestv1.WriteInputResponse], error) {
	message := request.Msg
	if len(message.GetData()) > inputLimit {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("data: more than %d bytes", inputLimit))
	}
	if message.GetOffset() > math.MaxInt64 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("offset: too large"))
	}
	found, err := s.table.Get(message.GetProcessId())
	if err != nil {
		return nil, answer(err)
	}
	accepted, closed, err := found.WriteInput(ctx, message.GetOffset(), message.GetData(), message.GetEof())
	if err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.WriteInputResponse{InputOffset: accepted, Closed: closed}), nil
}

// SignalProcess sends a signal.
func (s *Server) SignalProcess(_ context.Context, request *connect.Request[guestv1.SignalProcessRequest]) (*connect.Response[guestv1.SignalProcessResponse], error) {
	found, err := s.table.Get(request.Msg.GetProcessId())
	if err != nil {
		return nil, answer(err)
	}
	message := request.Msg
	milliseconds := message.GetEndTreeAfterMilliseconds()
	if milliseconds < 0 || milliseconds > endTreeLimit.Milliseconds() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("end_tree_after_milliseconds: 0 to %d", endTreeLimit.Milliseconds()))
	}
	var delivered bool
	if message.GetForeground() && !message.GetWholeTree() {
		delivered, err = found.SignalForeground(message.GetRequestId(), int(message.GetSignal()))
	} else {
		delivered, err = found.Signal(message.GetRequestId(), int(message.GetSignal()), message.GetWholeTree())
	}
	if err != nil {
		return nil, answer(err)
	}
	if milliseconds > 0 {
		found.EndTree(time.Duration(milliseconds) * time.Millisecond)
	}
	return connect.NewResponse(&guestv1.SignalProcessResponse{Delivered: delivered}), nil
}

// ResizeProcess sets a terminal's size.
func (s *Server) ResizeProcess(_ context.Context, request *connect.Request[guestv1.ResizeProcessRequest]) (*connect.Response[guestv1.ResizeProcessResponse], error) {
	size, err := terminalSize(request.Msg.GetSize())
	if err != nil {
		return nil, err
	}
	if size == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("size: missing"))
	}
	found, err := s.table.Get(request.Msg.GetProcessId())
	if err != nil {
		return nil, answer(err)
	}
	if err := found.Resize(*size); err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.ResizeProcessResponse{}), nil
}

// ListProcesses tells all that are remembered, in the order they were started.
func (s *Server) ListProcesses(context.Context, *connect.Request[guestv1.ListProcessesRequest]) (*connect.Response[guestv1.ListProcessesResponse], error) {
	response := &guestv1.ListProcessesResponse{}
	for _, state := range s.table.List() {
		response.Processes = append(response.Processes, describe(state))
	}
	return connect.NewResponse(response), nil
}

// RemoveProcess forgets a process that has exited.
func (s *Server) RemoveProcess(_ context.Context, request *connect.Request[guestv1.RemoveProcessRequest]) (*connect.Response[guestv1.RemoveProcessResponse], error) {
	if err := s.table.Remove(request.Msg.GetProcessId()); err != nil {
		return nil, answer(err)
	}
	return connect.NewResponse(&guestv1.RemoveProcessResponse{}), nil
}

// ready refuses processes where there is no root for them.
func (s *Server) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.up(); err != nil {
		return err
	}
	if s.root == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("MountRoot comes before StartProcess"))
	}
	return nil
}

func terminalSize(size *guestv1.TerminalSize) (*process.Size, error) {
	if size == nil {
		return nil, nil
	}
	if size.GetColumns() > math.MaxUint16 || size.GetRows() > math.MaxUint16 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("tty: columns and rows are at most 65535"))
	}
	return &process.Size{Columns: uint16(size.GetColumns()), Rows: uint16(size.GetRows())}, nil
}

func wireStream(stream output.Stream) guestv1.Stream {
	if stream == output.Stderr {
		return guestv1.Stream_STREAM_STDERR
	}
	return guestv1.Stream_STREAM_STDOUT
}

func describe(state process.State) *guestv1.Process {
	described := &guestv1.Process{
		ProcessId:              state.ID,
		Pid:                    int32(state.PID),
		Argv:                   state.Argv,
		Cwd:                    []byte(state.Cwd),
		Tty:                    state.TTY,
		Running:                state.Running,
		ExitCode:               int32(state.ExitCode),
		Signal:                 int32(state.Signal),
		TimedOut:               state.TimedOut,
		OutOfMemory:            state.OutOfMemory,
		StartError:             state.StartError,
		StartedUnixNanoseconds: state.Started.UnixNano(),
		OutputEnd:              state.OutputEnd,
		InputOffset:            state.InputOffset,
	}
	if !state.Ended.IsZero() && !state.Running {
		described.EndedUnixNanoseconds = state.Ended.UnixNano()
	}
	return described
}

// answer turns an error into the protocol's.
func answer(err error) error {
	switch {
	case errors.Is(err, process.ErrInvalid), errors.Is(err, output.ErrBeyondEnd):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, process.ErrNotFound), errors.Is(err, output.ErrClosed):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, process.ErrState):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewError(connect.CodeInternal, withErrno(err))
}

// withErrno adds the number of the system's error, which no translation changes.
func withErrno(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("%w (errno %d)", err, int(errno))
	}
	return err
}
