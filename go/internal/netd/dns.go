// This file owns the name server that the guest asks: what it may ask, who is asked for it, and what of the answer it
// gets. What was answered is what it may connect to afterwards.
package netd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"pyro.dev/pyro/go/internal/netpolicy"
)

const (
	queriesAtOnce = 256
	queryIdle     = 10 * time.Second
	// askTime is how long one name server has, rounds how often each is asked.
	askTime = 3 * time.Second
	rounds  = 2
	// mostTTL is how long a guest may keep an answer; grace is how much longer it may connect to it.
	mostTTL    = 300
	grace      = 2 * time.Minute
	plainSize  = 512
	askedSize  = 1232
	mostAnswer = 65535
	mostNames  = 16
)

// Codes of RFC 8914, which say why there is no answer.
const (
	optionError   = 15
	errorBlocked  = 15
	errorFiltered = 17
	errorNetwork  = 23
)

// resolver answers the guest's questions.
type resolver struct {
	network *Network
	servers atomic.Pointer[[]netip.AddrPort]
	slots   chan struct{}
}

func newResolver(n *Network) *resolver {
	r := &resolver{network: n, slots: make(chan struct{}, queriesAtOnce)}
	r.servers.Store(&[]netip.AddrPort{})
	return r
}

// use takes the name servers to ask.
func (r *resolver) use(texts []string) error {
	servers := []netip.AddrPort{}
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			servers = append(servers, netip.AddrPortFrom(address, portDNS))
			continue
		}
		server, err := netip.ParseAddrPort(text)
		if err != nil {
			return fmt.Errorf("resolver: %w", err)
		}
		servers = append(servers, server)
	}
	r.servers.Store(&servers)
	return nil
}

func (n *Network) acceptUDPQueries(request *udp.ForwarderRequest) bool {
	var queue waiter.Queue
	one := &flow{protocol: protocolDNS, datagrams: true, cut: func() {}}
	if ok, _ := n.flows.take(one); !ok {
		return false
	}
	endpoint, failure := request.CreateEndpoint(&queue)
	if failure != nil {
		n.flows.release(one)
		return false
	}
	go func() {
		defer n.flows.release(one)
		guest := gonet.NewUDPConn(&queue, endpoint)
		defer guest.Close()
		buffer := make([]byte, maxDatagram)
		for {
			_ = guest.SetReadDeadline(time.Now().Add(queryIdle))
			count, err := guest.Read(buffer)
			if err != nil {
				return
			}
			if answer := n.dns.answer(buffer[:count], false); answer != nil {
				_, _ = guest.Write(answer)
			}
		}
	}()
	return true
}

func (n *Network) acceptTCPQueries(request *tcp.ForwarderRequest) {
	one := &flow{protocol: protocolDNS, cut: func() {}}
	if ok, _ := n.flows.take(one); !ok {
		request.Complete(true)
		return
	}
	defer n.flows.release(one)
	guest, _, err := open(request, true)
	if err != nil {
		return
	}
	defer guest.Close()
	for {
		_ = guest.SetDeadline(time.Now().Add(queryIdle))
		query, err := readLong(guest)
		if err != nil {
			return
		}
		answer := n.dns.answer(query, true)
		if answer == nil {
			return
		}
		if _, err := guest.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// readLong reads a message behind its length, as TCP has them.
func readLong(in io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(in, message)
	return message, err
}

// question is what a guest asks, as far as it matters.
type question struct {
	id       uint16
	asked    dnsmessage.Question
	name     string
	extended bool
	size     int
}

// parseQuestion reads a query. Errors: one that is none; it gets no answer.
func parseQuestion(message []byte) (question, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return question{}, err
	}
	asked, err := parser.AllQuestions()
	if err != nil {
		return question{}, err
	}
	if header.Response || header.OpCode != 0 || len(asked) != 1 {
		return question{}, errors.New("not a query")
	}
	q := question{id: header.ID, asked: asked[0], size: plainSize}
	q.name = strings.ToLower(strings.TrimSuffix(asked[0].Name.String(), "."))
	if parser.SkipAllAnswers() != nil || parser.SkipAllAuthorities() != nil {
		return q, nil
	}
	for {
		resource, err := parser.AdditionalHeader()
		if err != nil {
			return q, nil
		}
		if resource.Type == dnsmessage.TypeOPT {
			q.extended, q.size = true, max(plainSize, int(resource.Class))
			return q, nil
		}
		if parser.SkipAdditional() != nil {
			return q, nil
		}
	}
}

// answer is the whole of it: nil for what gets none.
func (r *resolver) answer(message []byte, long bool) []byte {
	q, err := parseQuestion(message)
	if err != nil {
		return nil
	}
	if long {
		q.size = mostAnswer
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return q.refuse(dnsmessage.RCodeServerFailure, errorNetwork, "too many questions at once")
	}
	rules := r.network.rules.Load()
	if verdict := rules.Query(q.name); !verdict.Allowed {
		r.note(q, verdict)
		return q.refuse(dnsmessage.RCodeRefused, errorBlocked, "pyro: "+verdict.Reason)
	}
	if isHint(q.asked.Type) {
		// Its hints would be addresses that nobody has looked at, and keys that hide names.
		return q.reply(dnsmessage.RCodeSuccess, nil)
	}
	found, err := r.ask(q.asked)
	if err != nil {
		r.note(q, netpolicy.Verdict{Allowed: true, Name: q.name, Reason: "no answer: " + err.Error()})
		return q.refuse(dnsmessage.RCodeServerFailure, errorNetwork, "pyro: the host's name servers do not answer")
	}
	kept, addresses, why := r.sift(rules, q, found.Answers)
	if len(addresses) == 0 && why != "" {
		r.note(q, netpolicy.Verdict{Name: q.name, Reason: "it resolves to " + why})
		return q.refuse(dnsmessage.RCodeRefused, errorFiltered, "pyro: "+q.name+" resolves to "+why)
	}
	if why != "" {
		r.note(q, netpolicy.Verdict{Name: q.name, Reason: "one of its addresses is left out: it is " + why})
	}
	verdict := netpolicy.Verdict{Allowed: true, Name: q.name, Reason: "answered"}
	if found.RCode != dnsmessage.RCodeSuccess {
		verdict.Reason = "answered: " + strings.TrimPrefix(found.RCode.String(), "RCode")
	}
	r.note(q, verdict)
	return q.reply(found.RCode, kept)
}

// isHint tells the records that say how to connect: SVCB and HTTPS.
func isHint(kind dnsmessage.Type) bool { return kind == 64 || kind == 65 }

func (r *resolver) note(q question, verdict netpolicy.Verdict) {
	r.network.note(protocolDNS, netip.AddrPort{}, verdict)
}

// sift keeps what the guest may have of an answer, its time to live bounded, and learns the addresses. why is what an
// address that was left out is.
func (r *resolver) sift(
	rules *netpolicy.Rules, q question, answers []dnsmessage.Resource,
) (kept []dnsmessage.Resource, addresses []netip.Addr, why string) {
	// An alias leads on; what is not on the way from the question is nobody's answer.
	chain := map[string]bool{q.name: true}
	for range mostNames {
		grown := false
		for _, one := range answers {
			alias, ok := one.Body.(*dnsmessage.CNAMEResource)
			if ok && chain[lower(one.Header.Name)] && !chain[lower(alias.CNAME)] {
				chain[lower(alias.CNAME)], grown = true, true
			}
		}
		if !grown {
			break
		}
	}
	for _, one := range answers {
		if !chain[lower(one.Header.Name)] {
			continue
		}
		one.Header.TTL = min(one.Header.TTL, mostTTL)
		var address netip.Addr
		switch body := one.Body.(type) {
		case *dnsmessage.AResource:
			address = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			address = netip.AddrFrom16(body.AAAA)
		default:
			if !isHint(one.Header.Type) {
				kept = append(kept, one)
			}
			continue
		}
		if refusal := rules.NotPublic(address); refusal != "" {
			why = refusal + " (" + address.String() + ")"
			continue
		}
		if r.network.own.has(address) {
			why = "an address of this host (" + address.String() + ")"
			continue
		}
		r.network.names.Learn(q.name, address, time.Duration(one.Header.TTL)*time.Second+grace)
		addresses = append(addresses, address)
		kept = append(kept, one)
	}
	return kept, addresses, why
}

func lower(name dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(name.String(), "."))
}

// reply is an answer, without what does not fit.
func (q question) reply(code dnsmessage.RCode, answers []dnsmessage.Resource) []byte {
	header := dnsmessage.Header{ID: q.id, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: code}
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{q.asked}, Answers: answers}
	if q.extended {
		message.Additionals = []dnsmessage.Resource{q.extension()}
	}
	packed, err := message.Pack()
	if err != nil || len(packed) > q.size {
		message.Answers, message.Truncated = nil, err == nil
		if err != nil {
			message.RCode = dnsmessage.RCodeServerFailure
		}
		if packed, err = message.Pack(); err != nil {
			return nil
		}
	}
	return packed
}

func (q question) extension(options ...dnsmessage.Option) dnsmessage.Resource {
	var header dnsmessage.ResourceHeader
	_ = header.SetEDNS0(askedSize, dnsmessage.RCodeSuccess, false)
	return dnsmessage.Resource{Header: header, Body: &dnsmessage.OPTResource{Options: options}}
}

// refuse is an answer that says no, and why, to who asks in a way that can be told.
func (q question) refuse(code dnsmessage.RCode, why uint16, text string) []byte {
	header := dnsmessage.Header{ID: q.id, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: code}
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{q.asked}}
	if q.extended {
		data := append(binary.BigEndian.AppendUint16(nil, why), text...)
		message.Additionals = []dnsmessage.Resource{q.extension(dnsmessage.Option{Code: optionError, Data: data})}
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// ask asks the name servers one after the other.
func (r *resolver) ask(asked dnsmessage.Question) (dnsmessage.Message, error) {
	servers := *r.servers.Load()
	if len(servers) == 0 {
		return dnsmessage.Message{}, errors.New("the host has no name server")
	}
	var failure error
	for range rounds {
		for _, server := range servers {
			answer, err := exchangeWith(server, asked)
			if err == nil && answer.RCode != dnsmessage.RCodeServerFailure && answer.RCode != dnsmessage.RCodeRefused {
				return answer, nil
			}
			if failure = err; err == nil {
				failure = errors.New(strings.TrimPrefix(answer.RCode.String(), "RCode"))
			}
		}
	}
	return dnsmessage.Message{}, failure
}

func exchangeWith(server netip.AddrPort, asked dnsmessage.Question) (dnsmessage.Message, error) {
	query, id, err := newQuery(asked)
	if err != nil {
		return dnsmessage.Message{}, err
	}
	ctx, done := context.WithTimeout(context.Background(), askTime)
	defer done()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server.String())
	if err != nil {
		return dnsmessage.Message{}, errors.New(shortly(err))
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTime))
	if _, err := conn.Write(query); err != nil {
		return dnsmessage.Message{}, errors.New(shortly(err))
	}
	buffer := make([]byte, maxDatagram)
	for {
		count, err := conn.Read(buffer)
		if err != nil {
			return dnsmessage.Message{}, errors.New(shortly(err))
		}
		answer, err := parseAnswer(buffer[:count], id, asked)
		if err != nil {
			// Somebody else's, or one that cannot be read: the right one may come still.
			continue
		}
		if answer.Truncated {
			return askLong(ctx, server, query, id, asked)
		}
		return answer, nil
	}
}

// askLong asks over TCP what did not fit a datagram.
func askLong(
	ctx context.Context, server netip.AddrPort, query []byte, id uint16, asked dnsmessage.Question,
) (dnsmessage.Message, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return dnsmessage.Message{}, errors.New(shortly(err))
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTime))
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return dnsmessage.Message{}, errors.New(shortly(err))
	}
	message, err := readLong(conn)
	if err != nil {
		return dnsmessage.Message{}, errors.New(shortly(err))
	}
	return parseAnswer(message, id, asked)
}
