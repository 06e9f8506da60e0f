// This file owns handing a file to a running VMM: QMP's add-fd, over the monitor that is kept for it.

package vmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// monitorSocket is made by a VMM that can be handed files, in its directory.
	monitorSocket = "fd.sock"
	monitorTime   = 5 * time.Second
	// maxMonitorBytes is how much a VMM may say in one exchange.
	maxMonitorBytes = 256 << 10
)

// PassDisk opens a file and hands it to the VMM as the fd set of that number. The set stays only while a monitor
// connection is open or a drive uses it. Errors: ErrUnknown, ErrMonitor, those of opening the file.
func (r *Registry) PassDisk(ctx context.Context, id string, file File, set uint32) error {
	r.mutex.Lock()
	v, ok := r.vms[id]
	r.mutex.Unlock()
	if !ok {
		return ErrUnknown
	}
	select {
	case <-v.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mutex.Lock()
	over := v.over
	r.mutex.Unlock()
	if over {
		return ErrUnknown
	}
	opened, err := file.open()
	if err != nil {
		return err
	}
	defer opened.Close()

	// The monitor serves one client at a time.
	v.monitor.Lock()
	defer v.monitor.Unlock()
	ctx, cancel := context.WithTimeout(ctx, monitorTime)
	defer cancel()
	if err := passTo(ctx, v, opened, set); err != nil {
		return fmt.Errorf("%w: %w", ErrMonitor, err)
	}
	return nil
}

func passTo(ctx context.Context, v *vm, file *os.File, set uint32) error {
	connection, err := dialMonitor(ctx, v)
	if err != nil {
		return err
	}
	defer connection.Close()
	stop := context.AfterFunc(ctx, func() { _ = connection.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetDeadline(deadline); err != nil {
			return err
		}
	}
	replies := json.NewDecoder(bufio.NewReader(io.LimitReader(connection, maxMonitorBytes)))
	var greeting struct {
		QMP json.RawMessage `json:"QMP"`
	}
	if err := replies.Decode(&greeting); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if greeting.QMP == nil {
		return errors.New("this is no QMP monitor")
	}
	if _, err := ask(connection, replies, nil, "qmp_capabilities", nil); err != nil {
		return err
	}
	answer, err := ask(connection, replies, file, "add-fd", map[string]any{"fdset-id": set})
	if err != nil {
		return err
	}
	var added struct {
		Set uint32 `json:"fdset-id"`
	}
	if err := json.Unmarshal(answer, &added); err != nil || added.Set != set {
		return fmt.Errorf("add-fd answered %.200s", answer)
	}
	return nil
}

// ask runs one command, with a descriptor where file is not nil, and waits for its answer.
func ask(
	connection *net.UnixConn, replies *json.Decoder, file *os.File, command string, arguments map[string]any,
) (json.RawMessage, error) {
	request := map[string]any{"execute": command, "id": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	if _, _, err := connection.WriteMsgUnix(append(text, '\n'), rights, nil); err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	for {
		var reply struct {
			ID     string          `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Description string `json:"desc"`
			} `json:"error"`
		}
		if err := replies.Decode(&reply); err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case reply.Error != nil:
			return nil, fmt.Errorf("%s: %.500s", command, reply.Error.Description)
		case reply.ID == command && reply.Return != nil:
			return reply.Return, nil
		}
		// Anything else is an event.
	}
}

// dialMonitor connects to the monitor's socket and to nothing else: the VMM owns the directory, and could have put a
// symbolic link or another's socket there.
func dialMonitor(ctx context.Context, v *vm) (*net.UnixConn, error) {
	directory, err := unix.Open(v.directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: v.directory, Err: err}
	}
	defer unix.Close(directory)
	path := filepath.Join(v.directory, monitorSocket)
	socket, err := unix.Openat(directory, monitorSocket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(socket)
	var stat unix.Stat_t
	if err := unix.Fstat(socket, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s is not a socket", path)
	}
	var dialer net.Dialer
	dialed, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket))
	if err != nil {
		return nil, err
	}
	connection, ok := dialed.(*net.UnixConn)
	if !ok {
		dialed.Close()
		return nil, errors.New("not a unix connection")
	}
	user, err := PeerUID(connection)
	want := uint32(os.Geteuid())
	if v.uid != 0 {
		want = v.uid
	}
	if err == nil && user != want {
		err = fmt.Errorf("%s belongs to user %d", path, user)
	}
	if err != nil {
		connection.Close()
		return nil, err
	}
	return connection, nil
}

// PeerUID is the user at the other end of a unix connection.
func PeerUID(connection *net.UnixConn) (uint32, error) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if peerErr != nil {
		return 0, fmt.Errorf("peer credentials: %w", peerErr)
	}
	return peer.Uid, nil
}
