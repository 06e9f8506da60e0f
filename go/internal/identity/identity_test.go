package identity

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func good() *Identity {
	return &Identity{
		Hostname:        "box-1",
		MachineID:       strings.Repeat("0a", 16),
		UnixNanoseconds: time.Now().UnixNano(),
		Entropy:         make([]byte, 32),
	}
}

func TestValidate(t *testing.T) {
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Identity){
		"no hostname":     func(i *Identity) { i.Hostname = "" },
		"hostname":        func(i *Identity) { i.Hostname = "a b" },
		"long hostname":   func(i *Identity) { i.Hostname = strings.Repeat("a", 65) },
		"hostname's end":  func(i *Identity) { i.Hostname = "a-" },
		"machine id":      func(i *Identity) { i.MachineID = strings.Repeat("0A", 16) },
		"short id":        func(i *Identity) { i.MachineID = "0a" },
		"little entropy":  func(i *Identity) { i.Entropy = make([]byte, 31) },
		"much entropy":    func(i *Identity) { i.Entropy = make([]byte, 5000) },
		"clock":           func(i *Identity) { i.UnixNanoseconds = 0 },
		"clock before us": func(i *Identity) { i.UnixNanoseconds = -1 },
	} {
		i := good()
		change(i)
		if err := i.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteFiles(t *testing.T) {
	root := t.TempDir()
	i := good()
	check := func(name, want string) {
		t.Helper()
		text, err := os.ReadFile(root + "/etc/" + name)
		if err != nil || string(text) != want {
			t.Fatalf("%s: %q, %v", name, text, err)
		}
	}
	if err := i.WriteFiles(root); err != nil {
		t.Fatal(err)
	}
	check("machine-id", i.MachineID+"\n")
	check("hostname", "box-1\n")
	check("hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox-1\n")

	// What the guest made of its files is replaced, never followed; its own hosts stay.
	outside := t.TempDir() + "/outside"
	if err := os.WriteFile(outside, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(
		os.Remove(root+"/etc/machine-id"), os.Symlink(outside, root+"/etc/machine-id"),
		os.WriteFile(root+"/etc/hosts", []byte("127.0.0.1 localhost # box-1\n10.0.0.1 db"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := i.WriteFiles(root); err != nil {
			t.Fatal(err)
		}
	}
	check("machine-id", i.MachineID+"\n")
	check("hosts", "127.0.0.1 localhost # box-1\n10.0.0.1 db\n127.0.1.1\tbox-1\n")
	if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
		t.Fatalf("a link was followed: %q, %v", text, err)
	}
}
