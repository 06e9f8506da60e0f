// This file owns what is looked into under an allow-list: the first words of a connection, and every request where it
// is HTTP, must ask for a name that is allowed and that the address was told for.
package netd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"pyro.dev/pyro/go/internal/netpolicy"
	"pyro.dev/pyro/go/internal/sniff"
)

const (
	// firstWordsTime is how long a client may take to say what it asks for, where it must.
	firstWordsTime = 60 * time.Second
	peekBytes      = 16 << 10
	firstTLS       = 22
)

var (
	errDenied   = errors.New("denied")
	requestLine = regexp.MustCompile(` HTTP/[0-9.]+\r?\n`)
)

// checkedUp is up, for a connection that must say for which name it is.
func (p *pair) checkedUp() error {
	in := bufio.NewReaderSize(onlyReader{p.guest}, peekBytes)
	port := p.flow.to.Port()
	if mustClaim(port) {
		_ = p.guest.SetReadDeadline(time.Now().Add(firstWordsTime))
	}
	kind, err := kindOf(in)
	if err != nil {
		return err
	}
	if port == portTLS && kind != kindTLS || port == portHTTP && kind != kindHTTP {
		p.deny(netpolicy.Verdict{Reason: fmt.Sprintf("what is said on port %d gives no name", port)}, sniff.Refusal("it gives no name"))
		return errDenied
	}
	switch kind {
	case kindTLS:
		return p.checkTLS(in)
	case kindHTTP:
		return p.checkHTTP(in)
	}
	verdict := decide(p.network.rules.Load(), protocolTCP, p.flow.to, p.flow.names, p.network.own.has)
	p.network.note(protocolTCP, p.flow.to, verdict)
	if !verdict.Allowed {
		return errDenied
	}
	_ = p.guest.SetReadDeadline(time.Time{})
	return p.up(in)
}

func (p *pair) checkTLS(in *bufio.Reader) error {
	name, read, err := sniff.ServerName(in)
	if errors.Is(err, sniff.ErrHidden) || errors.Is(err, sniff.ErrNoName) || errors.Is(err, sniff.ErrNotTLS) {
		p.deny(netpolicy.Verdict{Reason: err.Error()}, sniff.Denied)
		return errDenied
	}
	if err != nil {
		return err
	}
	if !p.claim(name) {
		return p.denyClaim(name, sniff.Denied)
	}
	p.network.note("tls", p.flow.to, p.verdict(name))
	_ = p.guest.SetReadDeadline(time.Time{})
	if _, err := p.host.Write(read); err != nil {
		return err
	}
	return p.up(in)
}

// checkHTTP reads every request of the connection: the second may ask for another host than the first.
func (p *pair) checkHTTP(in *bufio.Reader) error {
	last := ""
	for first := true; ; first = false {
		request, err := sniff.ReadRequest(in)
		_ = p.guest.SetReadDeadline(time.Time{})
		if errors.Is(err, io.EOF) && (request == nil && !first) {
			return nil
		}
		if errors.Is(err, sniff.ErrNotHTTP) {
			p.deny(netpolicy.Verdict{Reason: err.Error()}, whenFirst(first, sniff.Refusal(err.Error())))
			return errDenied
		}
		if err != nil {
			return err
		}
		if !p.claim(request.Host) {
			return p.denyClaim(request.Host, whenFirst(first, sniff.Refusal(p.verdict(request.Host).Reason)))
		}
		if request.Host != last {
			last = request.Host
			p.network.note("http", p.flow.to, p.verdict(request.Host))
		}
		if _, err := p.host.Write(request.Raw); err != nil {
			return err
		}
		if err := request.Body(p.host, in); err != nil {
			return err
		}
		if request.Opaque && first && p.switched(request.Method) {
			return p.up(in)
		}
	}
}

// switched waits for the answer to a first request that may make the connection another protocol's.
func (p *pair) switched(method string) bool {
	want := "HTTP/1.1 101"
	if method == "CONNECT" {
		want = "HTTP/1.1 200"
	}
	select {
	case answer := <-p.answered:
		return bytes.HasPrefix(answer, []byte(want))
	case <-time.After(firstWordsTime):
		return false
	}
}

// claim notes the name, and tells whether it may be; a policy that changes later looks at it again.
func (p *pair) claim(name string) bool {
	p.network.flows.claim(p.flow, name)
	return p.verdict(name).Allowed
}

func (p *pair) verdict(name string) netpolicy.Verdict {
	return p.network.rules.Load().Claim(name, p.flow.to.Addr(), p.flow.names)
}

func (p *pair) denyClaim(name string, words []byte) error {
	p.deny(p.verdict(name), words)
	return errDenied
}

// deny writes the decision, and sends last words where they would not fall into the middle of an answer.
func (p *pair) deny(verdict netpolicy.Verdict, words []byte) {
	p.network.note(protocolTCP, p.flow.to, verdict)
	if words != nil {
		farewell(p.guest.TCPConn, words)
	}
}

func whenFirst(first bool, words []byte) []byte {
	if first {
		return words
	}
	return nil
}

const (
	kindOther = iota
	kindTLS
	kindHTTP
)

// kindOf looks at the first bytes, and waits for more only as long as they look like a line of text.
func kindOf(in *bufio.Reader) (int, error) {
	for want := 1; want <= peekBytes; {
		seen, err := in.Peek(want)
		if len(seen) < want {
			if errors.Is(err, io.EOF) && len(seen) > 0 {
				return kindOther, nil
			}
			return kindOther, err
		}
		seen, _ = in.Peek(in.Buffered())
		if seen[0] == firstTLS {
			return kindTLS, nil
		}
		end := bytes.IndexByte(seen, '\n')
		if end >= 0 {
			if requestLine.Match(seen[:end+1]) {
				return kindHTTP, nil
			}
			return kindOther, nil
		}
		for _, c := range seen {
			if (c < ' ' || c > '~') && c != '\r' {
				return kindOther, nil
			}
		}
		want = len(seen) + 1
	}
	return kindOther, nil
}
