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
	"testing/iotest"
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

// flatten gives the resulting tar, unless that is larger than any test means it to be.
func flatten(limits Limits, layers ...[]byte) ([]byte, error) {
	tree := NewTree(limits)
	for _, layer := range layers {
		if err := tree.Apply(bytes.NewReader(layer)); err != nil {
			return nil, err
		}
	}
	var result bytes.Buffer
	writer, err := tree.NewWriter(writerFunc(func(bytes []byte) (int, error) {
		if result.Len()+len(bytes) > 64<<20 {
			return 0, errors.New("there is no end to it")
		}
		return result.Write(bytes)
	}))
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
	crowded := file("a", "")
	crowded.PAXRecords = map[string]string{}
	// As much as a reader takes beside a short name, and too much beside a long path.
	for n := range 16 {
		crowded.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.%d", n)] = strings.Repeat("x", 65_000)
	}
	crowded.PAXRecords["SCHILY.xattr.user.last"] = strings.Repeat("x", 1<<20-16*65_030-200)
	long := strings.Repeat("d", 250)
	for range 3 {
		long += "/" + long
	}
	crowded.Name = "l/a"
	for name, layer := range map[string][]byte{
		"more than fits":       layerOf(t, dir(long, 0o755), symlink("l", long), crowded),
		"sparse, no whole map": paxSparseLayer("1", "0", 1_000_000, "200000\n"+strings.Repeat("1234567\n0\n", 200_000)),
		"climbs out":           layerOf(t, file("a/../../b", "")),
		"climbs out, a link":   layerOf(t, file("a", ""), hardlink("b", "../a")),
		"no directory":         layerOf(t, file("a", ""), file("a/b", "")),
		"loop":                 layerOf(t, symlink("a", "b"), symlink("b", "a"), file("a/c", "")),
		"link to nothing":      layerOf(t, hardlink("a", "b")),
		"link to a directory":  layerOf(t, dir("a", 0o755), hardlink("b", "a")),
		"link to the root":     layerOf(t, hardlink("b", "/")),
		"long name":            layerOf(t, file(strings.Repeat("x", 256), "")),
		"long path":            layerOf(t, file(strings.Repeat("x/", 2100)+"x", "")),
		"empty target":         layerOf(t, symlink("a", "")),
		"whiteout of nothing":  layerOf(t, file("a/b", ""), file("a/.wh.", "")),
		"whiteout of ..":       layerOf(t, file("a/b", ""), file("a/.wh...", "")),
		"root as a file":       layerOf(t, symlink("a/..", "x")),
		"device":               layerOf(t, entry{tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1 << 20}, ""}),
		"unknown type":         layerOf(t, entry{tar.Header{Typeflag: 'Z', Name: "z"}, ""}),
		"no tar":               []byte(strings.Repeat("what is this ", 100)),
		"cut":                  layerOf(t, file("a", strings.Repeat("x", 5000)))[:2000],
		"cut in a header":      layerOf(t, file("a", ""))[:300],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := flatten(DefaultLimits, layer)
			var malformed *MalformedError
			if !errors.As(err, &malformed) {
				t.Fatalf("not refused: %.300v", err)
			}
		})
	}
}

func TestSparse(t *testing.T) {
	expect(t, map[string]string{"sparse": "0 644 0:0 " + strings.Repeat("\x00", 3000)}, sparseLayer(t, 3000))
}

// TestFaultsOfTheSource: what the layer is read from, or the tar written to, is not the image's fault.
func TestFaultsOfTheSource(t *testing.T) {
	fault := errors.New("the disk is on fire")
	layer := layerOf(t, file("a", strings.Repeat("x", 5000)))
	broken := func() io.Reader { return io.MultiReader(bytes.NewReader(layer[:2000]), iotest.ErrReader(fault)) }
	if err := NewTree(DefaultLimits).Apply(broken()); err != fault {
		t.Errorf("reading for the tree: %v", err)
	}
	tree := NewTree(DefaultLimits)
	if err := tree.Apply(bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	writer, err := tree.NewWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Layer(broken()); err != fault {
		t.Errorf("reading for the tar: %v", err)
	}
	full := writerFunc(func(bytes []byte) (int, error) { return 0, fault })
	if writer, err = remade(t, layer).NewWriter(full); err != nil {
		t.Fatal(err)
	}
	if err := writer.Layer(bytes.NewReader(layer)); err != fault {
		t.Errorf("writing: %v", err)
	}
	// The second time there is less of it: that is the layer's fault.
	if writer, err = remade(t, layer).NewWriter(io.Discard); err != nil {
		t.Fatal(err)
	}
	var malformed *MalformedError
	if err := writer.Layer(bytes.NewReader(layer[:2000])); !errors.As(err, &malformed) {
		t.Errorf("a layer cut between: %v", err)
	}
}

func remade(t *testing.T, layer []byte) *Tree {
	t.Helper()
	tree := NewTree(DefaultLimits)
	if err := tree.Apply(bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	return tree
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(bytes []byte) (int, error) { return f(bytes) }

func TestHardLinksOfAufs(t *testing.T) {
	store := []entry{dir(".wh..wh.plnk", 0o755), file(".wh..wh.plnk/1.2", "x")}
	expect(t, map[string]string{"a": "0 644 0:0 x"}, layerOf(t, append(store, file("a", "x"))...))
	_, err := flatten(DefaultLimits, layerOf(t, append(store, hardlink("a", ".wh..wh.plnk/1.2"))...))
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "aufs") {
		t.Fatal(err)
	}
}

// TestTimes: sqfstar takes no later time for the root, and warns about none.
func TestTimes(t *testing.T) {
	late := file("late", "")
	late.ModTime = time.Unix(1<<33, 0)
	if newest := remade(t, layerOf(t, late)).Newest().Unix(); newest != 2_147_483_646 {
		t.Fatal(newest)
	}
}
