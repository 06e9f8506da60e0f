package files

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func newDisk(t *testing.T) *Disk {
	t.Helper()
	root := t.TempDir()
	for _, directory := range []string{"etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(root, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"bin": "usr/bin", "out": "../../../../etc/own", "abs": "/etc/own", "loop": "loop", "up": "..", "none": "nowhere"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/own": "own\n", "usr/bin/tool": "#!", "usr/bin/z\xff": ""} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return OfDisk(fd)
}

func TestADiskIsListedFromItsRoot(t *testing.T) {
	disk := newDisk(t)
	for _, c := range []struct {
		path      string
		recursive bool
		want      []string
	}{
		{"/", false, []string{"abs", "bin", "etc", "fifo", "loop", "none", "out", "up", "usr"}},
		{"/up/../usr", true, []string{"usr/bin", "usr/bin/tool", "usr/bin/z\xff"}},
		{"/bin", false, []string{"bin/tool", "bin/z\xff"}},
		{"/loop", false, []string{"loop"}},
		{"/none", false, []string{"none"}},
		{"/abs", false, []string{"abs"}},
	} {
		// In pages of two, which must be the same list.
		var got []string
		var after []byte
		for {
			page, err := disk.List([]byte(c.path), c.recursive, 2, after)
			if err != nil {
				t.Fatal(c.path, err)
			}
			for _, file := range page.Files {
				got = append(got, file.Path)
			}
			if !page.More {
				break
			}
			after = []byte(got[len(got)-1])
			if c.path != "/" {
				listed := map[string]string{"/up/../usr": "usr/", "/bin": "bin/"}[c.path]
				after = after[len(listed):]
			}
		}
		if len(got) != len(c.want) {
			t.Fatalf("%s: %q", c.path, got)
		}
		for n := range got {
			if got[n] != c.want[n] {
				t.Fatalf("%s: %q", c.path, got)
			}
		}
	}
}

func TestADiskIsReadInItsRootOnly(t *testing.T) {
	disk := newDisk(t)
	for _, path := range []string{"/etc/own", "/out", "/abs", "/up/up/etc/own"} {
		part, err := disk.Read([]byte(path), 1, 100)
		if err != nil || string(part.Content) != "wn\n" || part.More {
			t.Fatalf("%s: %q %v", path, part.Content, err)
		}
	}
	for path, kind := range map[string]Kind{
		"/none": Missing, "/loop": Outside, "/usr": WrongKind, "/fifo": WrongKind, "usr": Invalid, "/etc/own/x": WrongKind,
	} {
		_, err := disk.Read([]byte(path), 0, 100)
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Kind != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := disk.Read([]byte("/etc/own"), 0, ReadLimit+1); err == nil {
		t.Error("more than the limit was read")
	}
	if part, err := disk.Read([]byte("/etc/own"), 0, 2); err != nil || !part.More || part.Info.Path != "etc/own" {
		t.Error(part, err)
	}
}
