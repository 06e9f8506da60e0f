package netd

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const patience = 30 * time.Second

// These are public ones; in these tests the first is the host's loopback, and the second one of the host's own.
const (
	publicAddress = "9.9.9.9"
	ownAddress    = "8.8.8.8"
)

// ground is a network with a guest, which is another stack at the other end of the stream.
type ground struct {
	t       *testing.T
	network *Network
	guest   *stack.Stack
	stream  net.Conn
	journal *journalText
}

// journalText is a journal that is read while it is written.
type journalText struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (j *journalText) Write(data []byte) (int, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.Write(data)
}

func (j *journalText) decisions(t *testing.T) []Decision {
	t.Helper()
	j.mutex.Lock()
	defer j.mutex.Unlock()
	var list []Decision
	for _, line := range strings.Split(strings.TrimSpace(j.text.String()), "\n") {
		var d Decision
		if line != "" && json.Unmarshal([]byte(line), &d) != nil {
			t.Fatalf("line %q", line)
		}
		list = append(list, d)
	}
	return list
}

func newGround(t *testing.T, config Config) *ground {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	g := &ground{t: t, stream: ends[1], journal: &journalText{}}
	if g.network, err = New(ends[0], NewJournal(g.journal)); err != nil {
		t.Fatal(err)
	}
	g.network.own.known, g.network.own.at = map[netip.Addr]bool{netip.MustParseAddr(ownAddress): true}, time.Now().Add(time.Hour)
	g.network.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, _ := net.SplitHostPort(address)
		if host != publicAddress {
			t.Errorf("the host connects to %s", address)
		}
		return (&net.Dialer{Timeout: patience}).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	if report := g.network.Configure(config); report.Error != "" {
		t.Fatal(report.Error)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); _ = g.network.Run(ctx) }()
	g.boot()
	t.Cleanup(func() {
		cancel()
		<-over
		ends[0].Close()
		ends[1].Close()
		g.guest.Close()
	})
	return g
}

// boot makes the guest's stack.
func (g *ground) boot() {
	g.guest = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocolWithOptions(ipv4.Options{AllowExternalLoopbackTraffic: true}),
			ipv6.NewProtocolWithOptions(ipv6.Options{AllowExternalLoopbackTraffic: true}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	// Long, as two stacks that wait for each other's queues would stand still; a kernel drops instead.
	device := newLink(g.stream, 1<<15, tcpipAddress(Guest4), tcpipAddress(Guest6))
	if err := g.guest.CreateNIC(nic, device); err != nil {
		g.t.Fatal(err)
	}
	for address, protocol := range map[netip.Addr]tcpip.NetworkProtocolNumber{
		Guest4: ipv4.ProtocolNumber, Guest6: ipv6.ProtocolNumber,
	} {
		own := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: tcpipAddress(address).WithPrefix()}
		if err := g.guest.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			g.t.Fatal(err)
		}
	}
	g.guest.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	go func() { _ = device.receive() }()
	go func() { _ = device.send() }()
}

func full(address string, port int) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	parsed := netip.MustParseAddr(address)
	protocol := ipv4.ProtocolNumber
	if parsed.Is6() {
		protocol = ipv6.ProtocolNumber
	}
	return tcpip.FullAddress{NIC: nic, Addr: tcpipAddress(parsed), Port: uint16(port)}, protocol
}

// dial connects from the guest.
func (g *ground) dial(address string, port int) (*gonet.TCPConn, error) {
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	to, protocol := full(address, port)
	conn, err := gonet.DialContextTCP(ctx, g.guest, to, protocol)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(patience))
	}
	return conn, err
}

// must is dial, of a connection that has to be made.
func (g *ground) must(address string, port int) *gonet.TCPConn {
	g.t.Helper()
	conn, err := g.dial(address, port)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

// query asks the guest's name server.
func (g *ground) query(name string, kind dnsmessage.Type) dnsmessage.Message {
	g.t.Helper()
	to, protocol := full(Gateway4.String(), portDNS)
	conn, err := gonet.DialUDP(g.guest, nil, &to, protocol)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	asked := dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}
	packed, id, err := newQuery(asked)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(packed); err != nil {
		g.t.Fatal(err)
	}
	buffer := make([]byte, maxDatagram)
	count, err := conn.Read(buffer)
	if err != nil {
		g.t.Fatal(err)
	}
	var message dnsmessage.Message
	if err := message.Unpack(buffer[:count]); err != nil || message.ID != id {
		g.t.Fatal(err, message.ID, id)
	}
	return message
}

// awaitDecision waits for one like this.
func (g *ground) awaitDecision(what func(Decision) bool) Decision {
	g.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, d := range g.journal.decisions(g.t) {
			if what(d) {
				return d
			}
		}
	}
	g.t.Fatalf("no such decision among %+v", g.journal.decisions(g.t))
	return Decision{}
}

// server listens at the public address and serves each connection.
func server(t *testing.T, serve func(*net.TCPConn)) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// nameServer answers what `answers` says for a name; the nth question for a name gets the nth answer, the last for ever.
func nameServer(t *testing.T, answers map[string][]string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	asked := map[string]int{}
	go func() {
		buffer := make([]byte, maxDatagram)
		for {
			count, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(buffer[:count]) != nil {
				continue
			}
			q := message.Questions[0]
			message.Response, message.Additionals = true, nil
			name := lower(q.Name)
			list := answers[name]
			if len(list) == 0 {
				message.RCode = dnsmessage.RCodeNameError
			} else if q.Type == dnsmessage.TypeA {
				text := list[min(asked[name], len(list)-1)]
				asked[name]++
				head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
				for _, one := range strings.Fields(text) {
					if address, err := netip.ParseAddr(one); err == nil {
						message.Answers = append(message.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: address.As4()}})
						continue
					}
					alias := dnsmessage.MustNewName(one)
					message.Answers = append(message.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.CNAMEResource{CNAME: alias}})
					head.Name = alias
				}
			}
			if packed, err := message.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}
