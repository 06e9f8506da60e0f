package secrets

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// memory returns a directory that is in memory, or skips.
func memory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("/dev/shm", "pyro-secrets-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return filepath.Join(directory, "pyro", "secrets")
}

func TestPutMakesTheseAndNoOthers(t *testing.T) {
	directory := memory(t)
	first := []Secret{{"TOKEN", []byte("value-one")}, {"KEY", []byte("value-two\n")}}
	if err := Put(directory, first); err != nil {
		t.Fatal(err)
	}
	if err := Put(directory, []Secret{{"TOKEN", []byte("value-new")}}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "TOKEN" {
		t.Fatalf("there are %v", entries)
	}
	value, err := os.ReadFile(filepath.Join(directory, "TOKEN"))
	if err != nil || string(value) != "value-new" {
		t.Fatalf("TOKEN is %q, %v", value, err)
	}
	for path, mode := range map[string]os.FileMode{directory: 0o700, filepath.Join(directory, "TOKEN"): 0o400} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestPutRefusesWhatCannotBe(t *testing.T) {
	directory := memory(t)
	for _, wrong := range [][]Secret{
		{{"../x", []byte("value")}},
		{{"", []byte("value")}},
		{{"A", []byte("value")}, {"A", []byte("value")}},
		{{"A", make([]byte, mostBytes+1)}},
		make([]Secret, mostSecrets+1),
	} {
		if err := Put(directory, wrong); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.60v: %v", wrong, err)
		}
	}
}

func TestPutRefusesADiskAndALink(t *testing.T) {
	secret := []Secret{{"TOKEN", []byte("value-one")}}
	link := memory(t)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	if err := Put(link, secret); err == nil {
		t.Error("a link was followed")
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) != 0 {
		t.Error("something was written behind a link")
	}
	disk := filepath.Join("/var/tmp", "pyro-secrets-test-"+strings.ReplaceAll(t.Name(), "/", "-"))
	defer os.RemoveAll(disk)
	if inMemory("/var/tmp") == nil {
		t.Skip("/var/tmp is in memory")
	}
	if err := Put(disk, secret); err == nil {
		t.Error("a disk was written to")
	}
}
