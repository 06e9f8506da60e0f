package flatten

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var when = time.Unix(1_700_000_000, 0)

type entry struct {
	tar.Header
	content string
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: when}, ""}
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: when}, content}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: when}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: when}, ""}
}

func layerOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, one := range entries {
		one.Size = int64(len(one.content))
		if err := writer.WriteHeader(&one.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(writer, one.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// flatten gives the resulting tar.
func flatten(limits Limits, layers ...[]byte) ([]byte, error) {
	tree := NewTree(limits)
	for _, layer := range layers {
		if err := tree.Apply(bytes.NewReader(layer)); err != nil {
			return nil, err
		}
	}
	var result bytes.Buffer
	writer, err := tree.NewWriter(&result)
	if err != nil {
		return nil, err
	}
	for _, layer := range layers {
		if !writer.Wants() {
			continue
		}
		if err := writer.Layer(bytes.NewReader(layer)); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return result.Bytes(), nil
}

// listed gives one line for each entry of a tar, by name, and checks that a plain extraction of it works: no name
// twice, each below a directory that came before, links to what came before.
func listed(t testing.TB, archive []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	kinds := map[string]byte{"": tar.TypeDir}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSuffix(header.Name, "/")
		if _, twice := kinds[path]; twice {
			t.Fatalf("%q stands there twice", path)
		}
		parent := ""
		if at := strings.LastIndexByte(path, '/'); at >= 0 {
			parent = path[:at]
		}
		if kinds[parent] != tar.TypeDir || strings.HasPrefix(path, "/") || path == "" {
			t.Fatalf("%q does not stand below a directory", path)
		}
		kinds[path] = header.Typeflag
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %o %d:%d", header.Typeflag, header.Mode, header.Uid, header.Gid)
		switch header.Typeflag {
		case tar.TypeLink:
			if kind, there := kinds[header.Linkname]; !there || kind == tar.TypeDir {
				t.Fatalf("%q is a link to %q, which is not there", path, header.Linkname)
			}
			line = "= " + header.Linkname
		case tar.TypeSymlink:
			line += " -> " + header.Linkname
		case tar.TypeChar, tar.TypeBlock:
			line += fmt.Sprintf(" %d,%d", header.Devmajor, header.Devminor)
		case tar.TypeReg:
			line += " " + string(content)
		}
		for _, key := range slices.Sorted(maps.Keys(header.PAXRecords)) {
			if strings.HasPrefix(key, xattrRecord) {
				line += fmt.Sprintf(" %s=%q", strings.TrimPrefix(key, xattrRecord), header.PAXRecords[key])
			}
		}
		found[path] = line
	}
}

func expect(t *testing.T, want map[string]string, layers ...[]byte) {
	t.Helper()
	archive, err := flatten(DefaultLimits, layers...)
	if err != nil {
		t.Fatal(err)
	}
	got := listed(t, archive)
	for path := range got {
		if _, there := want[path]; !there {
			t.Errorf("%q should not be there: %s", path, got[path])
		}
	}
	for path, line := range want {
		if got[path] != line {
			t.Errorf("%q is %q, should be %q", path, got[path], line)
		}
	}
}

func TestWhiteouts(t *testing.T) {
	lower := layerOf(t, dir("a", 0o700), file("a/gone", "1"), file("a/kept", "2"), dir("b", 0o755), file("b/x", "3"),
		dir("b/sub", 0o755), file("b/sub/y", "4"), dir("c", 0o755), file("c/old", "5"), file("d", "6"))
	expect(t, map[string]string{
		"a": "5 700 0:0", "a/kept": "0 644 0:0 2",
		"b": "5 755 0:0", "b/new": "0 644 0:0 7", "b/sub": "5 755 0:0", "b/sub/z": "0 644 0:0 8",
		"c": "5 711 0:0", "c/new": "0 644 0:0 9",
	}, lower, layerOf(t,
		file("a/.wh.gone", ""), file("a/.wh.never", ""), file("never/.wh.there", ""),
		// An opaque directory hides what is below it, not what this layer has, wherever in the layer it stands.
		file("b/new", "7"), file("b/sub/z", "8"), file("b/.wh..wh..opq", ""),
		// Removed and made again.
		file(".wh.c", ""), dir("c", 0o711), file("c/new", "9"),
		file(".wh.d", ""), dir(".wh..wh.plnk", 0o755), file(".wh..wh.plnk/1.2", "aufs")))
	// The same after what the layer itself has.
	expect(t, map[string]string{"c": "5 711 0:0", "c/new": "0 644 0:0 9"},
		layerOf(t, dir("c", 0o755), file("c/old", "5"), dir("c/deep", 0o755), file("c/deep/old", "")),
		layerOf(t, dir("c", 0o711), file("c/new", "9"), file(".wh.c", "")))
}

func TestKindsReplaceEachOther(t *testing.T) {
	expect(t, map[string]string{
		"file": "5 755 0:0", "file/in": "0 644 0:0 now", "directory": "0 644 0:0 now", "link": "5 755 0:0",
		"target": "5 755 0:0", "target/old": "0 644 0:0 old", "merged": "5 1777 0:0", "merged/old": "0 644 0:0 old",
	}, layerOf(t, file("file", "was"), dir("directory", 0o755), file("directory/was", "gone"), dir("target", 0o755),
		symlink("link", "target"), dir("merged", 0o755), file("merged/old", "old"), file("target/old", "old")),
		layerOf(t, dir("file", 0o755), file("file/in", "now"), file("directory", "now"), dir("link", 0o755),
			dir("merged", 0o1777)))
}

func TestPathsThroughLinks(t *testing.T) {
	lower := layerOf(t, dir("usr", 0o755), dir("usr/bin", 0o755), symlink("bin", "usr/bin"),
		symlink("absolute", "/usr"), symlink("out", "../../../usr"), symlink("usr/up", ".."))
	expect(t, map[string]string{
		"usr": "5 755 0:0", "usr/bin": "5 755 0:0", "bin": "2 777 0:0 -> usr/bin", "absolute": "2 777 0:0 -> /usr",
		"out": "2 777 0:0 -> ../../../usr", "usr/up": "2 777 0:0 -> ..",
		"usr/bin/a": "0 644 0:0 a", "usr/b": "0 644 0:0 b", "usr/c": "0 644 0:0 c", "d": "0 644 0:0 d",
		"e": "5 755 0:0", "e/f": "0 644 0:0 e", "made": "5 755 0:0", "made/here": "5 755 0:0", "made/here/g": "0 644 0:0 g",
	}, lower, layerOf(t, file("bin/a", "a"), file("absolute/b", "b"), file("out/c", "c"), file("usr/up/d", "d"),
		file("/e/./x/../f", "e"), file("./made/here/g", "g")))
}

func TestHardLinks(t *testing.T) {
	attributes := hardlink("again", "one")
	attributes.Mode, attributes.Uid = 0o4755, 7
	expect(t, map[string]string{
		// The first name was replaced: the others are what it was.
		"one": "0 644 0:0 new", "three": "0 644 0:0 old", "two": "= three",
		"kept": "0 644 0:0 gone",
	}, layerOf(t, file("one", "old"), hardlink("two", "one"), file("lower", "gone")),
		layerOf(t, hardlink("three", "/two"), file("one", "new"), hardlink("kept", "./lower"), file(".wh.lower", "")))
	// What the link says holds for the file. A symbolic link has more than one name too, an empty file as well.
	expect(t, map[string]string{
		"again": "0 4755 7:0 x", "one": "= again", "s": "2 777 0:0 -> nowhere", "t": "= s", "e": "0 644 0:0 ", "f": "= e",
	}, layerOf(t, file("one", "x"), symlink("s", "nowhere"), file("e", "")),
		layerOf(t, attributes, hardlink("t", "s"), hardlink("f", "e")))
}

func TestAttributes(t *testing.T) {
	long := strings.Repeat("long/", 60) + strings.Repeat("x", 255)
	raw := file("raw\xff\xfename\nline", "raw")
	capable := file("capable", "c")
	capable.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20", "SCHILY.xattr.user.note": "a=b\n",
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.system.posix_acl_access": "x",
	}
	owned := file("owned", "o")
	owned.Uid, owned.Gid, owned.Mode = 4_000_000_000, 65_534, 0o6711
	device := entry{tar.Header{Typeflag: tar.TypeBlock, Name: "block", Mode: 0o600, Devmajor: 8, Devminor: 300}, ""}
	hidden := entry{tar.Header{Typeflag: tar.TypeChar, Name: "hidden"}, ""}
	fifo := entry{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o622}, ""}
	ancient := file("ancient", "a")
	ancient.ModTime = time.Unix(-5, 0)
	want := map[string]string{
		"raw\xff\xfename\nline": "0 644 0:0 raw", "owned": "0 6711 4000000000:65534 o", "block": "4 600 0:0 8,300",
		"capable": `0 644 0:0 c security.capability="\x01\x00\x00\x02\x00 " user.note="a=b\n"`,
		"fifo":    "6 622 0:0", "ancient": "0 644 0:0 a", long: "0 644 0:0 long",
	}
	for at := 0; at < 60; at++ {
		want[strings.TrimSuffix(strings.Repeat("long/", at+1), "/")] = "5 755 0:0"
	}
	expect(t, want, layerOf(t, raw, capable, owned, device, hidden, fifo, ancient, file(long, "long")))
}

func TestRoot(t *testing.T) {
	tree := NewTree(DefaultLimits)
	layer := layerOf(t, file("kept", "1"), dir("./", 0o1700))
	if err := tree.Apply(bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	if tree.RootMode() != 0o1700 || !tree.Newest().Equal(when) || tree.root.children["kept"] == nil {
		t.Fatalf("root: %o %s", tree.RootMode(), tree.Newest())
	}
}

func TestRefused(t *testing.T) {
	for name, layer := range map[string][]byte{
		"climbs out":          layerOf(t, file("a/../../b", "")),
		"climbs out, a link":  layerOf(t, file("a", ""), hardlink("b", "../a")),
		"no directory":        layerOf(t, file("a", ""), file("a/b", "")),
		"loop":                layerOf(t, symlink("a", "b"), symlink("b", "a"), file("a/c", "")),
		"link to nothing":     layerOf(t, hardlink("a", "b")),
		"link to a directory": layerOf(t, dir("a", 0o755), hardlink("b", "a")),
		"link to the root":    layerOf(t, hardlink("b", "/")),
		"long name":           layerOf(t, file(strings.Repeat("x", 256), "")),
		"long path":           layerOf(t, file(strings.Repeat("x/", 2100)+"x", "")),
		"empty target":        layerOf(t, symlink("a", "")),
		"whiteout of nothing": layerOf(t, file("a/b", ""), file("a/.wh.", "")),
		"whiteout of ..":      layerOf(t, file("a/b", ""), file("a/.wh...", "")),
		"root as a file":      layerOf(t, symlink("a/..", "x")),
		"device":              layerOf(t, entry{tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1 << 20}, ""}),
		"unknown type":        layerOf(t, entry{tar.Header{Typeflag: 'Z', Name: "z"}, ""}),
		"no tar":              []byte(strings.Repeat("what is this ", 100)),
		"cut":                 layerOf(t, file("a", strings.Repeat("x", 5000)))[:2000],
		"cut in a header":     layerOf(t, file("a", ""))[:300],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := flatten(DefaultLimits, layer)
			var malformed *MalformedError
			if !errors.As(err, &malformed) {
				t.Fatalf("not refused: %v", err)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	big := layerOf(t, file("a", strings.Repeat("x", 10_000)), file("b", strings.Repeat("x", 10_000)))
	noted := file("a", "")
	noted.PAXRecords = map[string]string{"SCHILY.xattr.user.note": strings.Repeat("x", 5000)}
	opaque := []entry{dir("a", 0o755)}
	for n := range 100 {
		opaque = append(opaque, file(fmt.Sprintf("a/%d", n), ""), file("a/.wh..wh..opq", ""))
	}
	for name, test := range map[string]struct {
		limits Limits
		layers [][]byte
	}{
		"entries":  {Limits{Entries: 3, UnpackedBytes: 1 << 30, MetadataBytes: 1 << 20, Steps: 1000}, [][]byte{big, big}},
		"unpacked": {Limits{Entries: 99, UnpackedBytes: 30_000, MetadataBytes: 1 << 20, Steps: 1000}, [][]byte{big, big}},
		"metadata": {Limits{Entries: 99, UnpackedBytes: 1 << 30, MetadataBytes: 4000, Steps: 1000}, [][]byte{layerOf(t, noted)}},
		"steps":    {Limits{Entries: 999, UnpackedBytes: 1 << 30, MetadataBytes: 1 << 20, Steps: 1000}, [][]byte{layerOf(t, opaque...)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := flatten(test.limits, test.layers...)
			var limit *LimitError
			if !errors.As(err, &limit) {
				t.Fatalf("not limited: %v", err)
			}
		})
	}
	if _, err := flatten(DefaultLimits, sparseLayer(t, 64<<30)); err == nil {
		t.Fatal("a sparse file of 64 GiB was taken")
	}
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
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(header, make([]byte, 1024)...)
}

func TestSparse(t *testing.T) {
	expect(t, map[string]string{"sparse": "0 644 0:0 " + strings.Repeat("\x00", 3000)}, sparseLayer(t, 3000))
}

// FuzzFlatten feeds two layers of anything: whatever comes out must be a tar that can be extracted.
func FuzzFlatten(f *testing.F) {
	lower := layerOf(f, dir("a", 0o755), file("a/b", "x"), symlink("l", "a"), hardlink("h", "a/b"), file("w", ""))
	upper := layerOf(f, file("l/c", "y"), file(".wh.w", ""), file("a/.wh..wh..opq", ""), hardlink("i", "h"), file("h", "z"))
	f.Add(lower, upper)
	f.Add(upper, lower)
	f.Add(lower[:700], upper)
	f.Add(sparseLayer(f, 3000), lower)
	limits := Limits{Entries: 1000, UnpackedBytes: 1 << 20, MetadataBytes: 1 << 20, Steps: 100_000}
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		archive, err := flatten(limits, lower, upper)
		if err == nil {
			listed(t, archive)
		}
	})
}
