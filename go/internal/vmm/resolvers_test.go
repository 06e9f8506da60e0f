package vmm

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNetdIsToldOfOtherNameServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("# nameserver 192.0.2.9\nnameserver 192.0.2.1\nsearch example\n")
	here, there := net.Pipe()
	defer here.Close()
	n := &network{spec: NetworkSpec{ResolverFile: path}, changed: make(chan struct{})}
	n.up = &talk{conn: here, in: bufio.NewReader(here)}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); n.followResolvers(ctx, 10*time.Millisecond) }()
	in := bufio.NewReader(there)
	for _, step := range []struct{ text, told string }{
		{"nameserver 192.0.2.2\nnameserver\t2001:db8::53 \n", `{"resolvers":["192.0.2.2","2001:db8::53"]}`},
		{"nameserver 192.0.2.1\n", `{"resolvers":["192.0.2.1"]}`},
	} {
		// A file that names nobody is one in the making: nothing is told of it.
		write("search example\n")
		write(step.text)
		_ = there.SetDeadline(time.Now().Add(30 * time.Second))
		line, err := in.ReadString('\n')
		if err != nil || line != step.told+"\n" {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := there.Write([]byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-over
	if len(n.resolvers) != 1 || n.resolvers[0] != "192.0.2.1" {
		t.Fatal(n.resolvers)
	}
}
