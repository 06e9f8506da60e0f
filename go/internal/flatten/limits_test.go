package flatten

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
)

var roomy = Limits{Entries: 9999, UnpackedBytes: 1 << 30, MetadataBytes: 64 << 20, PathBytes: 64 << 20, Steps: 1_000_000}

func TestLimits(t *testing.T) {
	big := layerOf(t, file("a", strings.Repeat("x", 10_000)), file("b", strings.Repeat("x", 10_000)))
	noted := file("a", "")
	noted.PAXRecords = map[string]string{"SCHILY.xattr.user.note": strings.Repeat("x", 5000)}
	opaque := []entry{dir("a", 0o755)}
	for n := range 100 {
		opaque = append(opaque, file(fmt.Sprintf("a/%d", n), ""), file("a/.wh..wh..opq", ""))
	}
	deep := layerOf(t, file(strings.Repeat("a/", 2000)+"f", ""))
	few := func(change func(*Limits)) Limits {
		limits := roomy
		change(&limits)
		return limits
	}
	overflow := bytes.Join([][]byte{
		unended(layerOf(t, file("one", "x"))), unended(paxSparseLayer("0", "1", math.MaxInt64, "")), paxSparseLayer("0", "1", 1<<40, ""),
	}, nil)
	for name, test := range map[string]struct {
		limits Limits
		says   string
		layers [][]byte
	}{
		"entries":          {few(func(l *Limits) { l.Entries = 3 }), "3 files", [][]byte{big, big}},
		"made-up entries":  {few(func(l *Limits) { l.Entries = 1000 }), "1000 files", [][]byte{deep}},
		"unpacked":         {few(func(l *Limits) { l.UnpackedBytes = 30_000 }), "unpacked", [][]byte{big, big}},
		"metadata":         {few(func(l *Limits) { l.MetadataBytes = 4000 }), "in memory", [][]byte{layerOf(t, noted)}},
		"made-up metadata": {few(func(l *Limits) { l.MetadataBytes = 500_000 }), "in memory", [][]byte{deep}},
		"paths":            {few(func(l *Limits) { l.PathBytes = 1 << 20 }), "paths", [][]byte{deep}},
		"steps":            {few(func(l *Limits) { l.Steps = 1000 }), "follow", [][]byte{layerOf(t, opaque...)}},
		"sparse":           {roomy, "unpacked", [][]byte{sparseLayer(t, 4<<30)}},
		"sparse, overflow": {roomy, "unpacked", [][]byte{overflow}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := flatten(test.limits, test.layers...)
			var limit *LimitError
			if !errors.As(err, &limit) || !strings.Contains(limit.What, test.says) {
				t.Fatalf("not limited: %.300v", err)
			}
			for _, layer := range test.layers {
				if len(layer) > 1<<20 {
					t.Fatal("the layers of this test are meant to be small")
				}
			}
		})
	}
}

// TestPathsThroughLinksAreBounded: names nest beyond what any path in the layer says.
func TestPathsThroughLinksAreBounded(t *testing.T) {
	entries, prefix := []entry{}, ""
	for n := range 3 {
		directory := prefix + strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 250)+"/", 8), "/")
		entries = append(entries, dir(directory, 0o755), symlink(fmt.Sprint(n), directory))
		prefix = fmt.Sprint(n, "/")
	}
	_, err := flatten(DefaultLimits, layerOf(t, entries...))
	var malformed *MalformedError
	if !errors.As(err, &malformed) || !strings.Contains(malformed.Why, "longer path") {
		t.Fatalf("not refused: %.300v", err)
	}
	archive, err := flatten(DefaultLimits, layerOf(t, entries[:4]...))
	if err != nil {
		t.Fatal(err)
	}
	listed(t, archive)
}

// TestMemory: what the tree counts is what it takes, and what the writer adds does not depend on how long paths are.
func TestMemory(t *testing.T) {
	const names = 2000
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 19)
	for name, each := range map[string]func(int) entry{
		"made-up directories": func(n int) entry {
			return file(fmt.Sprintf("%04x/%sf", n, strings.Repeat("a/", 20)), "")
		},
		"a comment beside": func(n int) entry {
			one := file(fmt.Sprintf("f%d", n), "")
			one.PAXRecords = map[string]string{"comment": strings.Repeat("x", 100_000), "SCHILY.xattr.user.a": "b", "path": one.Name + "ÿ"}
			return one
		},
		"links": func(n int) entry {
			one := symlink(fmt.Sprintf("l%d", n), strings.Repeat("ÿ", 200))
			one.PAXRecords = map[string]string{"comment": strings.Repeat("x", 100_000)}
			return one
		},
		"a long path": func(n int) entry { return file(fmt.Sprint(deep, n), "x") },
		"names of one file": func(n int) entry {
			if n == 0 {
				return file(deep+"0", "")
			}
			return hardlink(fmt.Sprint(deep, n), deep+"0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := io.Pipe()
			go func() {
				archive := tar.NewWriter(to)
				for n := range names {
					one := each(n)
					one.Size = int64(len(one.content))
					_ = archive.WriteHeader(&one.Header)
					_, _ = io.WriteString(archive, one.content)
				}
				_ = to.CloseWithError(archive.Close())
			}()
			tree := NewTree(DefaultLimits)
			before := heap()
			if err := tree.Apply(from); err != nil {
				t.Fatal(err)
			}
			writer, err := tree.NewWriter(io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if took := heap() - before; took > tree.metadata+1<<16 {
				t.Errorf("it takes %d bytes and counts %d", took, tree.metadata)
			}
			runtime.KeepAlive(tree)
			runtime.KeepAlive(writer)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// sparseLayer has one file of `size` zeros in almost no bytes.
func sparseLayer(t testing.TB, size int64) []byte {
	t.Helper()
	header := layerOf(t, file("sparse", ""))[:512]
	header[156] = tar.TypeGNUSparse
	copy(header[257:], "ustar  \x00")
	// GNU's own fields: one piece without bytes at the end, and the real size.
	clear(header[345:500])
	copy(header[386:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(header[483:], fmt.Sprintf("%011o\x00", size))
	return append(summed(header), make([]byte, 1024)...)
}

// paxSparseLayer has one file of that size, sparse as GNU tar says it in PAX records: version 0.1 of them has the map
// among them, 1.0 in front of the content.
func paxSparseLayer(major, minor string, size int64, content string) []byte {
	records := ""
	for _, record := range [][2]string{
		{"GNU.sparse.major", major}, {"GNU.sparse.minor", minor}, {"GNU.sparse.name", "sparse"},
		{"GNU.sparse.realsize", fmt.Sprint(size)}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.map", fmt.Sprintf("%d,0", size)},
	} {
		line := " " + record[0] + "=" + record[1] + "\n"
		length := len(line) + 2
		if length > 99 {
			length++
		}
		records += fmt.Sprint(length) + line
	}
	var layer []byte
	for _, one := range []struct {
		kind byte
		body string
	}{{tar.TypeXHeader, records}, {tar.TypeReg, content}} {
		header := make([]byte, 512)
		copy(header, "sparse")
		copy(header[100:], "0000644\x000000000\x000000000\x00")
		copy(header[124:], fmt.Sprintf("%011o\x00%011o\x00", len(one.body), 0))
		header[156] = one.kind
		copy(header[257:], "ustar\x0000")
		layer = append(layer, summed(header)...)
		layer = append(layer, one.body...)
		layer = append(layer, make([]byte, -len(layer)&511)...)
	}
	return append(layer, make([]byte, 1024)...)
}

func summed(header []byte) []byte {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return header
}

// unended is a layer without the blocks that end it.
func unended(layer []byte) []byte { return layer[:len(layer)-1024] }
