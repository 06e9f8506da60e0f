package manifest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var samples = []Entry{
	{Path: "a", Mode: unix.S_IFREG | 0o644, Inode: 12, Size: 3, Ctime: 1_600_000_000_123_456_789, Mtime: -1},
	{Path: "a\nb\xff", Mode: unix.S_IFLNK | 0o777, Inode: math.MaxUint64, Size: math.MaxUint64, Ctime: math.MinInt64, Mtime: math.MaxInt64},
	{Path: "dir", Mode: unix.S_IFDIR | 0o7777},
	{Path: "dir/" + strings.Repeat("x/", 3000) + "y", Mode: math.MaxUint32},
	{Path: "dir/z", Mode: unix.S_IFREG},
}

func written(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := NewWriter(&buffer)
	for i := range entries {
		if err := w.Add(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if count, err := w.Close(); err != nil || count != uint64(len(entries)) {
		t.Fatal(count, err)
	}
	return buffer.Bytes()
}

func read(from []byte) (entries []Entry, err error) {
	r, err := NewReader(bytes.NewReader(from))
	if err != nil {
		return nil, err
	}
	for {
		e, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, *e)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for count := range len(samples) + 1 {
		got, err := read(written(t, samples[:count]...))
		if err != nil || len(got) != count || count > 0 && !reflect.DeepEqual(got, samples[:count]) {
			t.Fatalf("%d: %v %v", count, got, err)
		}
	}
}

func TestADamagedManifestIsRefused(t *testing.T) {
	whole := written(t, samples...)
	for length := range whole {
		if _, err := read(whole[:length]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut at %d: %v", length, err)
		}
	}
	small := written(t, samples[0], samples[1])
	for at := range small {
		damaged := bytes.Clone(small)
		damaged[at] ^= 0x10
		if _, err := read(damaged); !errors.Is(err, ErrFormat) {
			t.Fatalf("damaged at %d: %v", at, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(written(f, samples...))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		entries, err := read(bytes)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if again, err := read(written(t, entries...)); err != nil || len(again) != len(entries) {
			t.Fatal(err)
		}
	})
}

func TestWalk(t *testing.T) {
	top := t.TempDir()
	deep := filepath.Join(top, "dir", "deep\xff\n")
	if err := os.MkdirAll(deep, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "file"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"link", "dir/link"} {
		if err := os.Symlink("/etc", filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(top, "fifo"), 0o640); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var buffer bytes.Buffer
	w := NewWriter(&buffer)
	if err := Walk(t.Context(), fd, w); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := read(buffer.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.Path] = true
		if above := filepath.Dir(e.Path); above != "." && !seen[above] {
			t.Errorf("%q stands before its directory", e.Path)
		}
		var stat unix.Stat_t
		if err := unix.Lstat(filepath.Join(top, e.Path), &stat); err != nil {
			t.Fatal(err)
		}
		want := Entry{Path: e.Path, Mode: stat.Mode, Inode: stat.Ino, Size: uint64(stat.Size), Ctime: stat.Ctim.Nano(), Mtime: stat.Mtim.Nano()}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			want.Inode = 0
		}
		if e != want {
			t.Errorf("%+v\n\tshould be %+v", e, want)
		}
	}
	if len(entries) != 6 || !seen["dir/deep\xff\n/file"] {
		t.Errorf("%v", seen)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Walk(gone, fd, NewWriter(io.Discard)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
