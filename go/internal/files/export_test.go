package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type exported struct {
	Exported
	entries map[string]*tar.Header
	content map[string]string
}

func (g *guest) export(path string, limits Limits) (exported, error) {
	g.t.Helper()
	var archive bytes.Buffer
	told, err := g.Export(g.t.Context(), []byte(path), limits, func(piece []byte) error {
		archive.Write(piece)
		return nil
	})
	all := exported{told, map[string]*tar.Header{}, map[string]string{}}
	if err != nil {
		return all, err
	}
	reader := tar.NewReader(&archive)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		check(g.t, err)
		content, err := io.ReadAll(reader)
		check(g.t, err)
		all.entries[header.Name] = header
		all.content[header.Name] = string(content)
	}
}

var plenty = Limits{Bytes: 1 << 30, Entries: 1000}

func TestExportOfADirectory(t *testing.T) {
	g := newGuest(t)
	odd := "\xff\xfe\n\"x"
	g.make(map[string]string{
		"d/file": "content\n", "d/empty": "", "d/sub/" + odd: "odd", "d/link -> elsewhere": "", "d/e/": "",
		"d/" + strings.Repeat("n", 200): "long", "outside": "no",
	})
	check(t, os.Chmod(g.at("d/file"), 0o754))
	check(t, os.Link(g.at("d/file"), g.at("d/hard")))
	check(t, unix.Mkfifo(g.at("d/fifo"), 0o600))
	when := unix.Timespec{Sec: 1_500_000_000, Nsec: 123_456_789}
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, g.at("d/file"), []unix.Timespec{when, when}, 0))
	all, err := g.export("d", plenty)
	check(t, err)
	if all.Type != Directory || all.Entries != 9 || all.SkippedCount != 1 || all.Skipped[0].Path != "d/fifo" {
		t.Fatalf("%+v %v", all.Exported, all.content)
	}
	file := all.entries["artifact/file"]
	if file.Mode != 0o754 || file.ModTime.UnixNano() != 1_500_000_000_123_456_789 || all.content["artifact/file"] != "content\n" {
		t.Errorf("%+v", file)
	}
	if hard := all.entries["artifact/hard"]; hard.Typeflag != tar.TypeLink || hard.Linkname != "artifact/file" {
		t.Errorf("%+v", hard)
	}
	if link := all.entries["artifact/link"]; link.Typeflag != tar.TypeSymlink || link.Linkname != "elsewhere" {
		t.Errorf("%+v", link)
	}
	if all.content["artifact/sub/"+odd] != "odd" || all.entries["artifact/e/"] == nil {
		t.Errorf("%v", all.content)
	}
}

func TestExportOfSingleThings(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"f": "x", "l -> f": "", "in -> d": "", "d/f": "y"})
	check(t, os.Symlink("/etc", g.at("out")))
	for path, kind := range map[string]Type{"f": File, "l": Symlink, "out": Symlink, "": Directory, ".": Directory, "in/f": File, "/workspace/f": File} {
		if all, err := g.export(path, plenty); err != nil || all.Type != kind {
			t.Errorf("%q: %v %v", path, all.Type, err)
		}
	}
	check(t, unix.Mkfifo(g.at("fifo"), 0o600))
	for path, kind := range map[string]Kind{"none": Missing, "../etc": Outside, "out/passwd": Outside, "fifo": WrongKind, "f/x": WrongKind, "a\x00b": Invalid} {
		var refused *Refusal
		if _, err := g.export(path, plenty); !errors.As(err, &refused) || refused.Kind != kind {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestExportIsBounded(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"d/a": "12345", "d/b": "12345", "d/c": "12345"})
	check(t, os.Truncate(g.at("d/c"), 1<<20))
	for _, limits := range []Limits{{Bytes: 1 << 20, Entries: 10}, {Bytes: 1 << 30, Entries: 3}, {Bytes: 1 << 30, Entries: 2}, {}} {
		var refused *Refusal
		if _, err := g.export("d", limits); !errors.As(err, &refused) || refused.Kind != Limit {
			t.Errorf("%+v: %v", limits, err)
		}
	}
	all, err := g.export("d", Limits{Bytes: 1<<20 + 10, Entries: 4})
	if err != nil || all.Bytes != 1<<20+10 || len(all.content["artifact/c"]) != 1<<20 {
		t.Errorf("%+v %v", all.Exported, err)
	}
}

// Who reads no more ends it, and a tree that changes meanwhile does not break the archive.
func TestExportWhileThingsChange(t *testing.T) {
	g := newGuest(t)
	g.make(map[string]string{"d/a": strings.Repeat("a", 1<<20), "d/b": strings.Repeat("b", 1<<20), "d/c": "c", "d/z/x": ""})
	stopped := errors.New("stopped")
	if _, err := g.Export(t.Context(), []byte("d"), plenty, func([]byte) error { return stopped }); !errors.Is(err, stopped) {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Export(gone, []byte("d"), plenty, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	first := true
	told, err := g.Export(t.Context(), []byte("d"), plenty, func(piece []byte) error {
		if first {
			first = false
			check(t, os.Truncate(g.at("d/a"), 100))
			check(t, os.Remove(g.at("d/c")))
			check(t, os.RemoveAll(g.at("d/z")))
			check(t, os.Symlink("/etc", g.at("d/z")))
		}
		archive.Write(piece)
		return nil
	})
	check(t, err)
	if told.SkippedCount != 1 || !strings.Contains(told.Skipped[0].Why, "shorter") {
		t.Errorf("%+v", told)
	}
	reader := tar.NewReader(&archive)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		if n, err := io.Copy(io.Discard, reader); err != nil || n != header.Size {
			t.Fatal(header.Name, n, err)
		}
	}
}
