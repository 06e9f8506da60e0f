// This file tests saved memory that is mapped by name: taken from a VMM, and found changed.
package memory

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// imported is the pattern as a VMM wrote it, and as it was saved.
func imported(t *testing.T) (path, sum string) {
	t.Helper()
	directory := t.TempDir()
	raw := filepath.Join(directory, "raw")
	if err := os.WriteFile(raw, pattern(), 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(directory, "memory")
	sum, data, err := Import(raw, size, path)
	if err != nil {
		t.Fatal(err)
	}
	if want, wantData := wantDigest(pattern()); sum != want || data != wantData {
		t.Errorf("digest %s over %d bytes, want %s over %d", sum, data, want, wantData)
	}
	return path, sum
}

func TestImportedMemoryIsSavedForEveryReader(t *testing.T) {
	path, sum := imported(t)
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o444 || stat.Size() != size {
		t.Errorf("%v, %v", stat, err)
	}
	// What is mapped by name can be loaded as well.
	if loaded, err := NewStore().Load(t.Context(), "t", path, size, sum); err != nil || !loaded {
		t.Errorf("load: %t, %v", loaded, err)
	}
}

func TestImportRefusesWhatIsNoMemory(t *testing.T) {
	directory := t.TempDir()
	short := filepath.Join(directory, "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(directory, "link")
	if err := os.Symlink(short, link); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{short, link, directory, filepath.Join(directory, "absent")} {
		if _, _, err := Import(source, size, filepath.Join(directory, "memory")); err == nil {
			t.Errorf("%s was imported", source)
		}
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 2 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

func TestCheckedMemoryIsReadAgainOnlyWhenItWasTouched(t *testing.T) {
	path, sum := imported(t)
	checked := NewChecked()
	check := func(want bool) {
		t.Helper()
		if read, err := checked.Check(path, size, sum); err != nil || read != want {
			t.Errorf("read %t (%v), want %t", read, err, want)
		}
	}
	check(true)
	check(false)
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	check(true)
	check(false)

	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{1}, 4*BlockBytes); err != nil {
		t.Fatal(err)
	}
	// The time of writing can be forged, that of the change cannot.
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := checked.Check(path, size, sum); !errors.Is(err, ErrDigest) {
			t.Errorf("a changed memory: %v", err)
		}
	}
	if _, err := checked.Check(path, size+4096, sum); !errors.Is(err, ErrDigest) {
		t.Errorf("another size: %v", err)
	}
}
