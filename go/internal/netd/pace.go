// This file owns the bandwidth: how many bytes a second pass each way, all of the guest's connections together.
package netd

import (
	"context"
	"io"
	"net"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	// leastBurst is what may pass at once whatever the limit: more than anything that is read in one piece, bytes.
	leastBurst = 256 << 10
	// burstsPerSecond is how many bursts make up a second where the limit is high.
	burstsPerSecond = 8
	// mostRate is the most that can be asked for, bytes a second.
	mostRate = 1 << 40
)

// pace is a bucket of tokens for each direction, one token a byte. What waits for tokens is not read, so that the sender
// hears of it as it hears of any slow link, and nothing is held in memory meanwhile.
type pace struct {
	up, down *rate.Limiter
}

func newPace() pace {
	return pace{up: rate.NewLimiter(rate.Inf, leastBurst), down: rate.NewLimiter(rate.Inf, leastBurst)}
}

// set takes a limit for each direction, bytes a second; 0 is none.
func (p pace) set(bytes int64) {
	limit := rate.Limit(bytes)
	if bytes == 0 {
		limit = rate.Inf
	}
	for _, limiter := range []*rate.Limiter{p.up, p.down} {
		limiter.SetBurst(max(leastBurst, int(bytes/burstsPerSecond)))
		limiter.SetLimit(limit)
	}
}

// paced reads no faster than a limit, until ctx ends.
type paced struct {
	from    io.Reader
	ctx     context.Context
	limiter *rate.Limiter
}

// Read gives at most a burst at a time.
func (p paced) Read(buffer []byte) (int, error) {
	count, err := p.from.Read(buffer[:min(len(buffer), leastBurst)])
	if count > 0 {
		if late := p.limiter.WaitN(p.ctx, count); late != nil {
			return 0, late
		}
	}
	return count, err
}

// guestConn is the guest's end of a connection: what is read from it goes up.
type guestConn struct {
	*gonet.TCPConn
	paced paced
}

func (g *guestConn) Read(buffer []byte) (int, error) { return g.paced.Read(buffer) }

// hostConn is the host's end: what is read from it goes down.
type hostConn struct {
	*net.TCPConn
	paced paced
}

func (h *hostConn) Read(buffer []byte) (int, error) { return h.paced.Read(buffer) }

// WriteTo is hidden, as it would pass the limit by.
func (h *hostConn) WriteTo(to io.Writer) (int64, error) {
	return io.Copy(to, onlyReader{h})
}
