package netd

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"pyro.dev/pyro/go/internal/netpolicy"
)

func everything(resolvers ...string) Config {
	return Config{Resolvers: resolvers}
}

func echo(conn *net.TCPConn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

func TestBytesAndEndsPassBothWays(t *testing.T) {
	g := newGround(t, everything())
	conn := g.must(publicAddress, server(t, echo))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	back, err := io.ReadAll(conn)
	if err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
		t.Fatal(len(back), err)
	}
	d := g.awaitDecision(func(d Decision) bool { return d.Protocol == "tcp" })
	if d.Verdict != "allowed" || d.Address != publicAddress {
		t.Fatalf("%+v", d)
	}
}

func TestAResetIsGivenOn(t *testing.T) {
	g := newGround(t, everything())
	port := server(t, func(conn *net.TCPConn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.SetLinger(0)
		conn.Close()
	})
	conn := g.must(publicAddress, port)
	_, _ = conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a reset was read as %v", err)
	}
	ended := make(chan error, 1)
	port = server(t, func(conn *net.TCPConn) {
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	})
	conn = g.must(publicAddress, port)
	_, _ = conn.Write([]byte("x"))
	conn.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the host's end was not told")
	}
}

func TestNobodyThereIsARefusal(t *testing.T) {
	g := newGround(t, everything())
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	start := time.Now()
	if _, err := g.dial(publicAddress, port); err == nil || time.Since(start) > patience/2 {
		t.Fatal(err, time.Since(start))
	}
	d := g.awaitDecision(func(d Decision) bool { return true })
	if !strings.Contains(d.Reason, "refused") {
		t.Fatalf("%+v", d)
	}
}

func TestWhatIsNotPublicIsRefusedAndSaid(t *testing.T) {
	g := newGround(t, everything())
	for _, address := range []string{
		"127.0.0.1", ownAddress, "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "10.213.0.1",
		"fd00::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::1", "10.213.0.77",
	} {
		if conn, err := g.dial(address, 8080); err == nil {
			conn.Close()
			t.Errorf("%s was reached", address)
		}
		g.awaitDecision(func(d Decision) bool { return d.Address == address && d.Verdict == "denied" && d.Reason != "" })
	}
}

func TestADeniedRequestIsToldWhy(t *testing.T) {
	g := newGround(t, everything())
	conn := g.must("169.254.169.254", 80)
	fmt.Fprint(conn, "GET /latest HTTP/1.1\r\nHost: metadata\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 403 ")) || !bytes.Contains(answer, []byte("metadata address")) {
		t.Fatalf("%q %v", answer, err)
	}
	conn = g.must("10.0.0.1", 443)
	_, _ = conn.Write([]byte("not TLS at all"))
	if answer, err := io.ReadAll(conn); err != nil || len(answer) != 7 || answer[0] != 21 {
		t.Fatalf("%v %v", answer, err)
	}
}

func TestDatagramsPass(t *testing.T) {
	g := newGround(t, everything())
	host, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	go func() {
		buffer := make([]byte, 1500)
		for {
			count, from, err := host.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = host.WriteTo(buffer[:count], from)
		}
	}()
	to, protocol := full(publicAddress, host.LocalAddr().(*net.UDPAddr).Port)
	conn, err := gonet.DialUDP(g.guest, nil, &to, protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	for range 3 {
		_, _ = conn.Write([]byte("hello"))
		buffer := make([]byte, 10)
		if count, err := conn.Read(buffer); err != nil || string(buffer[:count]) != "hello" {
			t.Fatal(err)
		}
	}
	to, protocol = full("10.0.0.1", 1234)
	denied, _ := gonet.DialUDP(g.guest, nil, &to, protocol)
	defer denied.Close()
	_ = denied.SetDeadline(time.Now().Add(patience))
	_, _ = denied.Write([]byte("hello"))
	g.awaitDecision(func(d Decision) bool { return d.Protocol == "udp" && d.Verdict == "denied" })
	if _, err := denied.Read(make([]byte, 10)); err == nil {
		t.Fatal("somebody answered")
	}
}

func TestNamesThatResolveToPrivateAddresses(t *testing.T) {
	server := nameServer(t, map[string][]string{
		"ok.example": {publicAddress}, "private.example": {"10.0.0.1"}, "both.example": {"10.0.0.1 " + publicAddress},
		"rebinding.example": {publicAddress, "169.254.169.254"}, "alias.example": {"private.example. 192.168.0.1"},
		"own.example": {ownAddress},
	})
	g := newGround(t, everything(server))
	if answer := g.query("ok.example.", dnsmessage.TypeA); answer.RCode != 0 || len(answer.Answers) != 1 {
		t.Fatalf("%+v", answer)
	}
	if answer := g.query("both.example.", dnsmessage.TypeA); answer.RCode != 0 || len(answer.Answers) != 1 {
		t.Fatalf("%+v", answer)
	}
	for _, name := range []string{"private.example.", "alias.example.", "own.example."} {
		answer := g.query(name, dnsmessage.TypeA)
		if answer.RCode != dnsmessage.RCodeRefused || len(answer.Answers) != 0 {
			t.Fatalf("%s: %+v", name, answer)
		}
		told := answer.Additionals[0].Body.(*dnsmessage.OPTResource).Options[0]
		if told.Code != optionError || !strings.Contains(string(told.Data), "resolves to") {
			t.Fatalf("%s: %+v", name, told)
		}
	}
	if answer := g.query("rebinding.example.", dnsmessage.TypeA); answer.RCode != 0 {
		t.Fatalf("%+v", answer)
	}
	if answer := g.query("rebinding.example.", dnsmessage.TypeA); answer.RCode != dnsmessage.RCodeRefused {
		t.Fatalf("%+v", answer)
	}
	if answer := g.query("nowhere.example.", dnsmessage.TypeA); answer.RCode != dnsmessage.RCodeNameError {
		t.Fatalf("%+v", answer)
	}
	g.awaitDecision(func(d Decision) bool {
		return d.Name == "rebinding.example" && d.Verdict == "denied" && strings.Contains(d.Reason, "metadata")
	})
}

func TestAnAllowListDecidesByNameAndAddress(t *testing.T) {
	names := nameServer(t, map[string][]string{"ok.example": {publicAddress}, "other.example": {publicAddress}})
	config := everything(names)
	config.AllowHosts = []string{"ok.example", "*.allowed.example"}
	g := newGround(t, config)
	port := server(t, func(conn *net.TCPConn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "Host: ") {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	if conn, err := g.dial(publicAddress, port); err == nil {
		conn.Close()
		t.Fatal("an address that was not told for a name was reached")
	}
	answer := g.query("other.example.", dnsmessage.TypeA)
	if answer.RCode != dnsmessage.RCodeRefused {
		t.Fatalf("%+v", answer)
	}
	if answer := g.query("OK.example.", dnsmessage.TypeA); len(answer.Answers) != 1 {
		t.Fatalf("%+v", answer)
	}
	if answer := g.query("ok.example.", dnsmessage.Type(65)); len(answer.Answers) != 0 || answer.RCode != 0 {
		t.Fatalf("%+v", answer)
	}
	conn := g.must(publicAddress, port)
	ask := func(host string) string {
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		buffer := make([]byte, 4096)
		count, _ := conn.Read(buffer)
		return string(buffer[:count])
	}
	if got := ask("ok.example"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatal(got)
	}
	if got := ask("other.example"); got != "" {
		t.Fatal("a second request for another host was answered: ", got)
	}
	conn = g.must(publicAddress, port)
	if got := ask("other.example"); !strings.HasPrefix(got, "HTTP/1.1 403") || !strings.Contains(got, "allow-list") {
		t.Fatal(got)
	}
	conn = g.must(publicAddress, port)
	hello := []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}
	_, _ = conn.Write(hello)
	if alert, _ := io.ReadAll(conn); len(alert) != 7 || alert[0] != 21 {
		t.Fatal(alert)
	}
	to, protocol := full(publicAddress, portTLS)
	quic, _ := gonet.DialUDP(g.guest, nil, &to, protocol)
	defer quic.Close()
	_, _ = quic.Write([]byte("hello"))
	g.awaitDecision(func(d Decision) bool { return d.Protocol == "udp" && strings.Contains(d.Reason, "QUIC") })
}

func TestANarrowerPolicyCutsWhatRuns(t *testing.T) {
	names := nameServer(t, map[string][]string{"ok.example": {publicAddress}})
	g := newGround(t, everything(names))
	port := server(t, echo)
	conn := g.must(publicAddress, port)
	_, _ = conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	config := everything(names)
	config.AllowHosts = []string{"elsewhere.example"}
	if report := g.network.Configure(config); report.Error != "" {
		t.Fatal(report.Error)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("it goes on")
	}
	g.awaitDecision(func(d Decision) bool { return strings.HasPrefix(d.Reason, "cut: ") })
	config.AllowHosts = []string{"no host"}
	if report := g.network.Configure(config); report.Error == "" {
		t.Fatal("a wrong policy was taken")
	}
	if !g.network.rules.Load().Narrowed {
		t.Fatal("a wrong policy changed something")
	}
}

func TestAThousandConnectionsAtOnce(t *testing.T) {
	g := newGround(t, everything())
	port := server(t, echo)
	const count = 1000
	conns := make([]*gonet.TCPConn, count)
	var group sync.WaitGroup
	for i := range conns {
		group.Go(func() {
			conn, err := g.dial(publicAddress, port)
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = conn
		})
	}
	group.Wait()
	for i, conn := range conns {
		if conn == nil {
			continue
		}
		group.Go(func() {
			defer conn.Close()
			text := fmt.Sprintf("connection %d", i)
			_, _ = conn.Write([]byte(text))
			back := make([]byte, len(text))
			if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
				t.Error(i, err)
			}
		})
	}
	group.Wait()
	for deadline := time.Now().Add(patience); g.network.flows.tcp > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("flows are left: ", g.network.flows.tcp)
		}
	}
}

func TestALargeDownloadTakesBoundedMemory(t *testing.T) {
	const size = 64 << 20
	g := newGround(t, everything())
	port := server(t, func(conn *net.TCPConn) {
		defer conn.Close()
		block := make([]byte, 1<<20)
		for sent := 0; sent < size; sent += len(block) {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	})
	conn := g.must(publicAddress, port)
	var most uint64
	var got int
	buffer := make([]byte, 64<<10)
	for i := 0; ; i++ {
		count, err := conn.Read(buffer)
		got += count
		if i%500 == 0 {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			most = max(most, stats.HeapInuse)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got != size || most > 128<<20 {
		t.Fatal(got, most)
	}
}

func TestAnHostileLinkEndsAlone(t *testing.T) {
	here, there := net.Pipe()
	network, err := New(here, NewJournal(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- network.Run(t.Context()) }()
	_, _ = there.Write([]byte{0, 0, 0, 3, 'x', 'y', 'z', 0, 1, 0x45, 0, 2, 0x60, 0x01, 0xff, 0xff})
	select {
	case err := <-over:
		if !errors.Is(err, errPacket) {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
}

func TestAPublishedPortReachesTheGuest(t *testing.T) {
	config := everything()
	config.Publish = []Port{{GuestPort: 8000}}
	g := newGround(t, config)
	address, protocol := full(Guest4.String(), 8000)
	listener, err := gonet.ListenTCP(g.guest, address, protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _, _ = io.Copy(conn, conn) }()
		}
	}()
	port := g.network.Report().Published[0]
	conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port.HostPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = conn.Write([]byte("hello"))
	back := make([]byte, 5)
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != "hello" {
		t.Fatal(err)
	}
	if g.network.Report().PublishedConnections != 1 {
		t.Fatal(g.network.Report())
	}
	other := newGround(t, everything())
	taken := everything()
	taken.Publish = []Port{port}
	if report := other.network.Configure(taken); report.PortTaken != port.HostPort || len(report.Published) != 0 {
		t.Fatalf("%+v", report)
	}
	config.Publish = []Port{port}
	if report := g.network.Configure(config); report.Error != "" || len(report.Published) != 1 {
		t.Fatalf("%+v", report)
	}
	config.Publish = nil
	if report := g.network.Configure(config); len(report.Published) != 0 {
		t.Fatalf("%+v", report)
	}
	if _, err := conn.Read(back); err == nil {
		t.Fatal("a connection outlives its port")
	}
}

func FuzzQuestion(f *testing.F) {
	packed, _, _ := newQuery(dnsmessage.Question{Name: dnsmessage.MustNewName("a.example."), Type: 1, Class: 1})
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := parseQuestion(data)
		if err != nil {
			return
		}
		q.reply(0, nil)
		if answer := q.refuse(dnsmessage.RCodeRefused, errorBlocked, "why"); len(answer) > maxDatagram {
			t.Fatal(len(answer))
		}
	})
}

func FuzzAnswer(f *testing.F) {
	asked := dnsmessage.Question{Name: dnsmessage.MustNewName("a.example."), Type: 1, Class: 1}
	message := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{asked}}
	head := dnsmessage.ResourceHeader{Name: asked.Name, Class: 1, TTL: 5}
	message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}}}
	packed, _ := message.Pack()
	f.Add(packed)
	rules, _ := netpolicy.Policy{}.Compile()
	network := &Network{names: netpolicy.NewNames()}
	network.own.known, network.own.at = map[netip.Addr]bool{}, time.Now().Add(time.Hour)
	f.Fuzz(func(t *testing.T, data []byte) {
		answer, err := parseAnswer(data, 7, asked)
		if err != nil {
			return
		}
		q := question{asked: asked, name: "a.example", size: maxDatagram}
		kept, addresses, _ := newResolver(network).sift(rules, q, answer.Answers)
		for _, address := range addresses {
			if netpolicy.NotPublic(address) != "" {
				t.Fatal(address)
			}
		}
		q.reply(answer.RCode, kept)
	})
}

func TestABandwidthHoldsForAllConnectionsTogether(t *testing.T) {
	const limit, count, size = 4 << 20, 4, 512 << 10
	config := everything()
	config.BytesPerSecond = limit
	g := newGround(t, config)
	port := server(t, echo)
	began := time.Now()
	var group sync.WaitGroup
	for range count {
		conn := g.must(publicAddress, port)
		group.Go(func() {
			_, _ = conn.Write(make([]byte, size))
			_ = conn.CloseWrite()
		})
		group.Go(func() {
			if back, err := io.ReadAll(conn); err != nil || len(back) != size {
				t.Error(len(back), err)
			}
		})
	}
	group.Wait()
	// What is in the bucket passes at once.
	least := time.Duration(float64(count*size-limit/burstsPerSecond) / limit * float64(time.Second))
	if took := time.Since(began); took < least {
		t.Fatalf("%d bytes took %v, and not %v", count*size, took, least)
	}
	config.BytesPerSecond = -1
	if report := g.network.Configure(config); report.Error == "" {
		t.Fatal("a wrong bandwidth was taken")
	}
	// A connection that waits for its turn is cut like any other.
	config.BytesPerSecond = 1
	if report := g.network.Configure(config); report.Error != "" {
		t.Fatal(report.Error)
	}
	conn := g.must(publicAddress, port)
	_, _ = conn.Write(make([]byte, size))
	config.AllowHosts = []string{"elsewhere.example"}
	if report := g.network.Configure(config); report.Error != "" {
		t.Fatal(report.Error)
	}
	if _, err := io.ReadAll(conn); err == nil {
		t.Fatal("it goes on")
	}
}
