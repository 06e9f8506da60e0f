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
		"no hostname":      func(i *Identity) { i.Hostname = "" },
		"hostname":         func(i *Identity) { i.Hostname = "a b" },
		"long hostname":    func(i *Identity) { i.Hostname = strings.Repeat("a", 65) },
		"hostname's end":   func(i *Identity) { i.Hostname = "a-" },
		"hostname's start": func(i *Identity) { i.Hostname = ".a" },
		"machine id":       func(i *Identity) { i.MachineID = strings.Repeat("0A", 16) },
		"short id":         func(i *Identity) { i.MachineID = "0a" },
		"little entropy":   func(i *Identity) { i.Entropy = make([]byte, 31) },
		"much entropy":     func(i *Identity) { i.Entropy = make([]byte, 5000) },
		"clock":            func(i *Identity) { i.UnixNanoseconds = 0 },
		"clock before us":  func(i *Identity) { i.UnixNanoseconds = -1 },
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
	if err := i.WriteFiles(root, nil); err != nil {
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
		if err := i.WriteFiles(root, nil); err != nil {
			t.Fatal(err)
		}
	}
	check("machine-id", i.MachineID+"\n")
	check("hosts", "127.0.0.1 localhost # box-1\n10.0.0.1 db\n127.0.1.1\tbox-1\n")
	if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
		t.Fatalf("a link was followed: %q, %v", text, err)
	}
}

func TestAnotherIdentityLeavesNoTraceOfTheFirst(t *testing.T) {
	root := t.TempDir()
	first, second := good(), good()
	second.Hostname, second.MachineID = "box-2", strings.Repeat("1b", 16)
	if err := errors.Join(first.WriteFiles(root, nil), second.WriteFiles(root, first), second.WriteFiles(root, second)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"machine-id": second.MachineID + "\n",
		"hostname":   "box-2\n",
		"hosts":      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox-2\n",
	} {
		if text, err := os.ReadFile(root + "/etc/" + name); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestLongHostsAreLeftAlone(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("10.0.0.1 blocked.example\n", readLimit/24)
	if err := errors.Join(os.Mkdir(root+"/etc", 0o755), os.WriteFile(root+"/etc/hosts", []byte(long), 0o644)); err != nil {
		t.Fatal(err)
	}
	i := good()
	if err := i.WriteFiles(root, nil); !errors.Is(err, errTooLong) {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(root + "/etc/hosts"); err != nil || string(text) != long {
		t.Fatalf("%d bytes of %d, %v", len(text), len(long), err)
	}
	// The rest is written all the same.
	if text, err := os.ReadFile(root + "/etc/hostname"); err != nil || string(text) != "box-1\n" {
		t.Fatalf("%q, %v", text, err)
	}
}

func TestAnEtcThatIsNoDirectory(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"a dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"a loop":          func(path string) error { return os.Symlink("etc", path) },
	} {
		root := t.TempDir()
		if err := make(root + "/etc"); err != nil {
			t.Fatal(err)
		}
		if err := good().WriteFiles(root, nil); err == nil {
			t.Errorf("%s: nothing was said", name)
		}
	}
}

func TestLay(t *testing.T) {
	i := good()
	lower, upper := t.TempDir(), t.TempDir()
	try := func(want bool) {
		t.Helper()
		if done, err := i.Lay(lower, upper); err != nil || done != want {
			t.Fatalf("%v, %v", done, err)
		}
	}
	check := func(name, want string) {
		t.Helper()
		text, err := os.ReadFile(upper + "/etc/" + name)
		if err != nil || string(text) != want {
			t.Fatalf("%s: %q, %v", name, text, err)
		}
	}
	// There is no /etc to lay out alike, or it is something else.
	try(false)
	if err := os.Symlink("/", lower+"/etc"); err != nil {
		t.Fatal(err)
	}
	try(false)
	err := errors.Join(os.Remove(lower+"/etc"), os.Mkdir(lower+"/etc", 0o700),
		os.Chmod(lower+"/etc", 0o751|os.ModeSetgid),
		os.WriteFile(lower+"/etc/hosts", []byte("127.0.0.1 localhost\n10.0.0.1 db"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	try(true)
	check("machine-id", i.MachineID+"\n")
	check("hostname", "box-1\n")
	check("hosts", "127.0.0.1 localhost\n10.0.0.1 db\n127.0.1.1\tbox-1\n")
	if info, err := os.Stat(upper + "/etc"); err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o751 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(upper + "/etc/machine-id"); err != nil || info.Mode() != 0o444 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	// A disk that was used before has an /etc of its own.
	i.Hostname = "box-2"
	try(false)
	check("hostname", "box-1\n")
}
