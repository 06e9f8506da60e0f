// This file owns the networks of microVMs: netd is started, confined, for one that is to have a network, started again
// when it ends, and ended with the microVM.

package vmm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// netdFiles is how many files a netd may have open: two thousand connections and as many flows.
	netdFiles = 16384
	// answerTime is how long netd may take to answer.
	answerTime = 10 * time.Second
	// The pause before it is started again grows from the first to the last of these, and is the first again for one that
	// has lived a while.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	longLife   = 30 * time.Second
	maxReport  = 1 << 20
	maxWords   = 2048
	netPort    = "net"
)

// ErrNetwork: the network could not be made, or does not answer.
var ErrNetwork = errors.New("network")

// NetworkSpec is what a network is started with. Its values have been checked.
type NetworkSpec struct {
	Program      string
	VsockSocket  string
	Namespace    string
	LogDirectory string
	// ResolverFile names the host's name servers; netd is told when they change. Empty where the user has named others.
	ResolverFile string
}

// network is one microVM's. Its fields are guarded by mutex.
type network struct {
	spec   NetworkSpec
	cancel context.CancelFunc
	over   chan struct{}

	mutex sync.Mutex
	// config is told to every netd of it; empty before one was good.
	config string
	// resolvers are told to every netd of it after the config, once they have changed.
	resolvers []string
	// up is netd's end of the conversation, nil while there is none; changed is closed when that changes.
	up      *talk
	changed chan struct{}
	failure error
}

// talk is the conversation with one netd: a line, then an answer.
type talk struct {
	mutex sync.Mutex
	conn  net.Conn
	in    *bufio.Reader
}

// ConnectNetwork gives a running microVM its network, and tells it config; an empty one asks what there is. It returns
// netd's answer. Errors: ErrUnknown, ErrClosing, ErrNetwork, that of ctx.
func (r *Registry) ConnectNetwork(ctx context.Context, id string, spec NetworkSpec, config string) (string, error) {
	r.mutex.Lock()
	v, ok := r.vms[id]
	r.mutex.Unlock()
	if !ok {
		return "", ErrUnknown
	}
	select {
	case <-v.started:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	r.mutex.Lock()
	if v.over || v.doomed || r.closing {
		r.mutex.Unlock()
		return "", ErrUnknown
	}
	if v.network == nil {
		if config == "" {
			r.mutex.Unlock()
			return "", fmt.Errorf("%w: there is none", ErrNetwork)
		}
		living, cancel := context.WithCancel(context.Background())
		v.network = &network{spec: spec, cancel: cancel, over: make(chan struct{}), changed: make(chan struct{})}
		go r.keepNetwork(living, v, v.network)
		go v.network.followResolvers(living, resolversEvery)
	}
	n := v.network
	r.mutex.Unlock()
	return n.tell(ctx, config)
}

// disconnect ends a microVM's network and returns when it is gone.
func (r *Registry) disconnect(v *vm) {
	r.mutex.Lock()
	n := v.network
	v.doomed = true
	r.mutex.Unlock()
	if n == nil {
		return
	}
	n.cancel()
	<-n.over
}

// tell has the present netd, or the next, take a config.
func (n *network) tell(ctx context.Context, config string) (string, error) {
	ctx, done := context.WithTimeout(ctx, answerTime)
	defer done()
	for {
		up, changed, failure := n.present()
		if up != nil {
			report, err := up.ask(configMessage(config))
			if err == nil {
				n.keep(config, report)
				return report, nil
			}
			// It ends by this, if it has not yet.
			up.conn.Close()
		}
		select {
		case <-changed:
		case <-n.over:
			return "", ErrUnknown
		case <-ctx.Done():
			return "", errors.Join(fmt.Errorf("%w: it does not come up", ErrNetwork), failure)
		}
	}
}

// keep remembers a config that was good.
func (n *network) keep(config, report string) {
	var answer struct {
		Error string `json:"error"`
	}
	if config == "" || json.Unmarshal([]byte(report), &answer) != nil || answer.Error != "" {
		return
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.config = config
}

func (n *network) present() (*talk, chan struct{}, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.up, n.changed, n.failure
}

func (n *network) set(up *talk, failure error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.up = up
	if failure != nil {
		n.failure = failure
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// configMessage has netd take a config, or only say what there is.
func configMessage(config string) string {
	if config == "" {
		config = "null"
	}
	return `{"config":` + config + "}"
}

// ask tells netd something and reads its answer.
func (t *talk) ask(message string) (string, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err := t.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(t.conn, message+"\n"); err != nil {
		return "", err
	}
	line, err := t.in.ReadSlice('\n')
	return string(line), err
}

// keepNetwork runs one netd after the other until ctx ends.
func (r *Registry) keepNetwork(ctx context.Context, v *vm, n *network) {
	defer close(n.over)
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.runNetd(ctx, v, n)
		n.set(nil, err)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > longLife {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			log.Printf("network of %s: %v; it is started again", v.spec.ID, err)
		}
		pause = min(2*pause, lastPause)
	}
}

// runNetd runs one netd until it ends, or ctx does. It returns why it ended.
func (r *Registry) runNetd(ctx context.Context, v *vm, n *network) error {
	port, kind, err := v.openNetPort(n.spec)
	if err != nil {
		return err
	}
	defer port.Close()
	started, err := r.startNetd(v, n, port, kind)
	if err != nil {
		return err
	}
	defer started.close()
	over := make(chan error, 1)
	go func() { over <- started.wait() }()
	stop := context.AfterFunc(ctx, started.kill)
	defer stop()
	n.mutex.Lock()
	config, resolvers := n.config, n.resolvers
	n.mutex.Unlock()
	var messages []string
	if config != "" {
		messages = append(messages, configMessage(config))
	}
	if resolvers != nil {
		messages = append(messages, resolversMessage(resolvers))
	}
	for _, message := range messages {
		if _, err := started.talk.ask(message); err != nil {
			started.kill()
			return errors.Join(err, <-over)
		}
	}
	n.set(started.talk, nil)
	return <-over
}

// openNetPort connects to the microVM's net port. The VMM owns the directory of its socket, and may have put a link there.
func (v *vm) openNetPort(spec NetworkSpec) (*os.File, string, error) {
	path, kind := v.directory+"."+netPort+".sock", "serial"
	if spec.VsockSocket != "" {
		path, kind = filepath.Join(v.root(), spec.VsockSocket), "vsock"
	} else if !slices.Contains(v.spec.Ports, netPort) {
		return nil, "", fmt.Errorf("%w: the microVM has no net port", ErrNetwork)
	}
	place, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(place)
	var stat unix.Stat_t
	if err := unix.Fstat(place, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, "", fmt.Errorf("%w: %s is no socket", ErrNetwork, path)
	}
	conn, err := net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d", place), answerTime)
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	file, err := conn.(*net.UnixConn).File()
	return file, kind, err
}
