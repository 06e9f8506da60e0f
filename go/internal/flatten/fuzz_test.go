package flatten

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// script turns bytes into layers that are whole archives: mutations of an archive itself get no further than the
// checksum of a header.
type script struct{ rest []byte }

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

var scriptNames = []string{"a", "b", "c", "d", ".wh.a", ".wh.b", ".wh..wh..opq", "..", ".", "", ".wh.", ".wh..wh.plnk", "é"}

// path has up to seven components; the two highest bits make it absolute, or deep.
func (s *script) path() string {
	shape := s.next()
	parts := make([]string, 1+shape&7%7)
	for at := range parts {
		parts[at] = scriptNames[int(s.next())%len(scriptNames)]
	}
	path := strings.Join(parts, "/")
	if shape&0x80 != 0 {
		path = "/" + path
	}
	if shape&0xe0 == 0x60 {
		path = strings.Repeat("e/", int(s.next())*8) + path
	}
	return path
}

var scriptKinds = []byte{
	tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeReg, tar.TypeFifo, tar.TypeChar, tar.TypeDir,
	tar.TypeLink, tar.TypeSymlink, tar.TypeBlock, tar.TypeGNUSparse, 'x', 'n',
}

// layers are up to three. `n` ends one, `x` is a file that says in PAX records that it is sparse.
func (s *script) layers(t testing.TB) (layers [][]byte, entries [][]entry) {
	var layer []byte
	var listed []entry
	end := func() {
		layers, entries = append(layers, append(layer, make([]byte, 1024)...)), append(entries, listed)
		layer, listed = nil, nil
	}
	for len(s.rest) > 0 && len(layers) < 3 {
		kind := scriptKinds[int(s.next())%len(scriptKinds)]
		if kind == 'n' {
			end()
			continue
		}
		if kind == 'x' || kind == tar.TypeGNUSparse {
			size := int64(s.next()) << (s.next() % 56)
			made := func() []byte { return paxSparseLayer("0", "1", size, "") }
			if kind == tar.TypeGNUSparse {
				// As many digits as that header has room for.
				size &= 0o77777777777
				made = func() []byte { return sparseLayer(t, size) }
			}
			one := entry{tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: 0o644, Size: size}, ""}
			if size <= 1<<20 {
				one.content = strings.Repeat("\x00", int(size))
			}
			layer = append(layer, unended(made())...)
			listed = append(listed, one)
			continue
		}
		look := s.next()
		one := entry{tar.Header{Typeflag: kind, Name: s.path(), Mode: int64(look) << 4 & 0o777, Uid: int(look & 3), ModTime: when}, ""}
		switch kind {
		case tar.TypeReg:
			one.content = strings.Repeat(string('0'+rune(look%10)), int(look&31))
		case tar.TypeSymlink, tar.TypeLink:
			one.Linkname = s.path()
		case tar.TypeChar, tar.TypeBlock:
			one.Devminor = int64(look & 1)
		}
		if look&0x30 == 0x30 {
			one.PAXRecords = map[string]string{"SCHILY.xattr.user.x": fmt.Sprint(look), "comment": strings.Repeat("x", int(look)*10)}
		}
		if one.Name == "" {
			one.Name = "./"
		}
		if one.Linkname == "" && (kind == tar.TypeSymlink || kind == tar.TypeLink) {
			one.Linkname = "."
		}
		if kind != tar.TypeDir {
			// archive/tar takes a file whose name ends like that for a directory.
			one.Name = strings.TrimRight(one.Name, "/") + strings.Repeat("x", 1-min(1, len(strings.TrimRight(one.Name, "/"))))
		}
		layer, listed = append(layer, unended(layerOf(t, one))...), append(listed, one)
	}
	end()
	return layers, entries
}

// FuzzFlatten compares what comes out with what extracting entry after entry would make (model_test.go), and holds
// memory and result to what the layers can ask for.
func FuzzFlatten(f *testing.F) {
	const reg, directory, sym, hard, sparse, pax, next = 0, 1, 2, 3, 11, 12, 13
	f.Add([]byte{directory, 0x77, 0, 0, reg, 0x35, 1, 0, 1, sym, 0, 0, 2, 0, 0, hard, 9, 0, 3, 1, 0, 1, next, reg, 3, 1, 2, 2, reg, 0, 0, 4})
	f.Add([]byte{reg, 3, 1, 0, 1, next, reg, 0, 1, 0, 6, reg, 4, 1, 0, 2, next, reg, 1, 0, 4, reg, 1, 1, 0, 0})
	f.Add([]byte{sym, 0, 0, 0, 0, 1, sym, 0, 0, 1, 0, 0, reg, 0, 1, 0, 1})
	f.Add([]byte{reg, 0, 0x60, 0, 255, reg, 1, 0x60, 1, 250, next, reg, 1, 0, 4})
	f.Add([]byte{sparse, 200, 4, pax, 255, 55, pax, 255, 55, reg, 1, 0, 0})
	f.Add([]byte{pax, 255, 4, hard, 1, 0, 1, 0, 3, hard, 0, 0, 0, 0, 11})
	f.Add([]byte{directory, 0x77, 0, 8, directory, 7, 0, 1, sym, 1, 2, 1, 8, 0, 1, 7, reg, 7, 2, 1, 8, 2})
	limits := Limits{Entries: 5000, UnpackedBytes: 1 << 20, MetadataBytes: 2 << 20, PathBytes: 4 << 20, Steps: 1_000_000}
	f.Fuzz(func(t *testing.T, bytes []byte) { compare(t, limits, bytes) })
}

func compare(t *testing.T, limits Limits, bytes []byte) {
	layers, entries := (&script{bytes[:min(len(bytes), 1000)]}).layers(t)
	given := int64(0)
	for _, layer := range layers {
		given += int64(len(layer))
	}
	before := allocated()
	archive, err := flatten(limits, layers...)
	if took := allocated() - before; took > 100*given+8*limits.MetadataBytes+int64(20*len(archive)) {
		t.Fatalf("%d bytes of memory for %d bytes of layers", took, given)
	}
	if most := limits.UnpackedBytes + 3*limits.PathBytes + int64(limits.Entries)*2048; int64(len(archive)) > most {
		t.Fatalf("%d bytes came out", len(archive))
	}
	model := newModel(limits)
	refused := model.apply(entries)
	var limit *LimitError
	switch {
	case errors.As(err, &limit):
		// What memory and steps are counted as the model does not know.
		known := strings.Contains(limit.What, "files") || strings.Contains(limit.What, "unpacked")
		if known && refused != refusedLimit {
			t.Fatalf("limited (%v), the model says %q", err, refused)
		}
	case err != nil:
		var malformed *MalformedError
		var unsupported *UnsupportedError
		if !errors.As(err, &malformed) && !errors.As(err, &unsupported) || refused != refusedEntry {
			t.Fatalf("refused (%.300v), the model says %q", err, refused)
		}
	case refused != "":
		t.Fatalf("not refused, the model says %q", refused)
	default:
		got, want := listed(t, archive), model.listed()
		if !maps.Equal(got, want) {
			for _, path := range slices.Sorted(maps.Keys(got)) {
				if got[path] != want[path] {
					t.Errorf("%.200q is %.100q, should be %.100q", path, got[path], want[path])
				}
			}
			t.Fatalf("got %d names, should be %d", len(got), len(want))
		}
	}
}

func allocated() int64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.TotalAlloc)
}
