// This file owns the look by a command: it has a cgroup of its own, and nothing of it is left afterwards.
package readiness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"pyro.dev/pyro/go/internal/process"
)

const (
	// tailLimit is how much of a command's output a reason holds, bytes.
	tailLimit = 600
	// endTime is how long a killed command may take to be gone.
	endTime = 5 * time.Second
)

var commands atomic.Uint64

// Command looks whether a command exits with 0 in time; its tree is killed when it does not. Errors that are
// process.ErrInvalid or process.ErrNotFound say that there can be no such command.
func Command(ctx context.Context, table *process.Table, argv, env [][]byte, cwd string) error {
	p, err := table.Start(process.Spec{
		ID:        fmt.Sprintf("ready_%d", commands.Add(1)),
		Argv:      argv,
		Env:       env,
		Cwd:       cwd,
		NoStdin:   true,
		Timeout:   max(left(ctx, time.Minute), time.Millisecond),
		WholeTree: true,
	})
	if err != nil {
		return err
	}
	tail, err := printed(ctx, p, 0)
	if err != nil {
		_, _ = p.Signal("", 0, true)
		ending, done := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		_, _ = printed(ending, p, p.State().OutputEnd)
		done()
	}
	state := p.State()
	table.Discard(p)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case err != nil || state.TimedOut:
		return errors.New("the command did not end in time" + said(tail))
	case state.StartError != "":
		return errors.New(state.StartError)
	case state.Signal != 0:
		return fmt.Errorf("the command was ended by signal %d%s", state.Signal, said(tail))
	case state.ExitCode != 0:
		return fmt.Errorf("the command exited with %d%s", state.ExitCode, said(tail))
	}
	return nil
}

// printed reads what a process prints from a cursor to its end, and returns the last of it.
func printed(ctx context.Context, p *process.Process, from uint64) ([]byte, error) {
	reader, err := p.Log().Attach(from)
	if err != nil {
		return nil, err
	}
	defer reader.Detach(false)
	var tail []byte
	buffer := make([]byte, 16<<10)
	for {
		chunk, err := reader.Next(ctx, buffer)
		if errors.Is(err, io.EOF) {
			return tail, nil
		}
		if err != nil {
			return tail, err
		}
		tail = append(tail, chunk.Data...)
		tail = tail[max(0, len(tail)-tailLimit):]
		reader.Took(chunk)
	}
}

func said(tail []byte) string {
	text := strings.TrimSpace(string(tail))
	if text == "" {
		return ""
	}
	return ": " + text
}
