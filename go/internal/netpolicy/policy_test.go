package netpolicy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestWhatIsPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true, "192.0.1.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"172.32.0.1": true, "192.168.1.1": false, "169.254.169.254": false, "169.254.1.1": false, "100.64.0.1": false,
		"100.128.0.1": true, "224.0.0.1": false, "239.1.1.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"198.18.0.1": false, "203.0.113.7": false, "::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false,
		"fc00::1": false, "fd12::1": false, "ff02::1": false, "fd00:ec2::254": false, "2001:db8::1": false, "4000::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::127.0.0.1": false,
		"64:ff9b::a00:1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::a00:1": false, "2002:a00:1::1": false,
		"2002:7f00:1::": false, "2002:808:808::1": false, "64:ff9b::808:808": true, "::8.8.8.8": false, "2001::1": false,
	} {
		if got := NotPublic(netip.MustParseAddr(text)) == ""; got != want {
			t.Errorf("%s: public %v (%s)", text, got, NotPublic(netip.MustParseAddr(text)))
		}
	}
	if NotPublic(netip.Addr{}) == "" {
		t.Error("no address is a public one")
	}
}

func TestWhatANameMatches(t *testing.T) {
	hosts, err := ParseHosts([]string{"Example.ORG", "*.pypi.org", "9.9.9.9", "2606::1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"example.org": true, "www.example.org": false, "pypi.org": false, "files.pypi.org": true, "a.b.pypi.org": true,
		"evilpypi.org": false, "pypi.org.evil.com": false, "": false, "org": false,
	} {
		if got := hosts.Allows(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if !hosts.AllowsAddress(netip.MustParseAddr("::ffff:9.9.9.9")) || hosts.AllowsAddress(netip.MustParseAddr("9.9.9.8")) {
		t.Error("addresses")
	}
	for _, wrong := range []string{"", "*", "*.", "a..b", "-a.b", "a b", "http://a", "a:80", "*.*.a", "ä.org", "a/24"} {
		if _, err := ParseHosts([]string{wrong}); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestAConnectionIsDecidedByNameAndAddress(t *testing.T) {
	rules, err := Policy{AllowHosts: []string{"ok.example", "8.8.4.4"}}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	own := func(address netip.Addr) bool { return address == netip.MustParseAddr("5.5.5.5") }
	for _, c := range []struct {
		address string
		names   []string
		want    bool
	}{
		{"8.8.8.8", []string{"ok.example"}, true}, {"8.8.8.8", nil, false}, {"8.8.8.8", []string{"no.example"}, false},
		{"10.0.0.1", []string{"ok.example"}, false}, {"5.5.5.5", []string{"ok.example"}, false}, {"8.8.4.4", nil, true},
		{"::ffff:10.0.0.1", []string{"ok.example"}, false},
	} {
		if got := rules.Connect(netip.MustParseAddr(c.address), c.names, own); got.Allowed != c.want || got.Reason == "" {
			t.Errorf("%v: %+v", c, got)
		}
	}
	for _, c := range []struct {
		claim string
		want  bool
	}{{"ok.example", true}, {"OK.example.", true}, {"no.example", false}, {"8.8.8.8", false}, {"", false}, {"[::1]", false}} {
		if got := rules.Claim(c.claim, netip.MustParseAddr("8.8.8.8"), []string{"ok.example"}); got.Allowed != c.want {
			t.Errorf("%v: %+v", c, got)
		}
	}
	if got := rules.Claim("ok.example", netip.MustParseAddr("8.8.8.8"), nil); got.Allowed {
		t.Error("a name that the address was not told for")
	}
	wide, _ := Policy{Public: []string{"203.0.113.0/24"}}.Compile()
	if !wide.Connect(netip.MustParseAddr("203.0.113.1"), nil, own).Allowed || wide.Connect(netip.MustParseAddr("203.0.112.1"), nil, func(netip.Addr) bool { return true }).Allowed {
		t.Error("ranges that count as public")
	}
}

func TestNamesAreForgotten(t *testing.T) {
	names := NewNames()
	now := time.Unix(0, 0)
	names.now = func() time.Time { return now }
	address := netip.MustParseAddr("9.9.9.9")
	names.Learn("a.example", address, time.Minute)
	names.Learn("a.example", address, time.Second)
	if got := names.Of(address); len(got) != 1 {
		t.Fatal(got)
	}
	now = now.Add(time.Minute)
	if got := names.Of(address); len(got) != 0 {
		t.Fatal(got)
	}
	for i := range maxAddresses + 100 {
		names.Learn("b.example", netip.AddrFrom4([4]byte{20, 0, byte(i >> 8), byte(i)}), time.Hour)
	}
	for i := range 3 * maxNamesEach {
		names.Learn(fmt.Sprintf("n%d.example", i), address, time.Hour)
	}
	if len(names.known) > maxAddresses || len(names.Of(address)) > maxNamesEach {
		t.Fatal(len(names.known), len(names.Of(address)))
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("*.example.org")
	f.Add("::ffff:1.2.3.4")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := ParseHosts([]string{text})
		if err == nil && hosts.Allows("never.pyro.invalid") && text != "never.pyro.invalid" && text != "*.pyro.invalid" && text != "*.invalid" {
			if name, ok := Name(text); !ok || name != "never.pyro.invalid" {
				t.Fatalf("%q allows another's name", text)
			}
		}
	})
}
