package transfer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// made is a tree with everything that must be kept.
func made(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners become root, and only root can see that")
	}
	directory := t.TempDir()
	script := `
umask 0
mkdir -p src/deep/er 'dir with spaces' empty sticky setgid closed
printf '#!/bin/sh\n' >src/run.sh; chmod 0755 src/run.sh
printf one >src/deep/er/one; chmod 0600 src/deep/er/one
printf two >"$(printf 'name\nwith\nnewlines')"
printf three >"$(printf 'not\377utf\2008')"
printf four >"$(printf 'c\303\266t\303\251 \\ "quoted"')"
printf five >-rf
printf s >setuid; chmod 4755 setuid
printf g >setgid/file; chmod 2640 setgid/file
printf w >writable; chmod 0666 writable
printf n >none; chmod 0000 none
ln src/run.sh hard; ln hard empty-not
ln -s ../src/run.sh 'dir with spaces/up'; ln -s /absolute/nowhere dangling; ln -s . self; ln dangling hardsym
mkdir -p many; for i in 1 2 3 4 5 6 7 8 9; do printf "$i" >many/$i; done
chmod 1777 sticky; chmod 2775 setgid; chmod 0500 closed; printf c >closed/in
head -c 700000 /dev/urandom >large
find . -depth -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
touch -h -d '1969-12-31 23:59:58.5' dangling; touch -d '2040-01-01 00:00:00.000000001' src/deep
`
	command := exec.Command("sh", "-c", script)
	command.Dir = directory
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return directory
}

func TestATreeArrivesAsItIs(t *testing.T) {
	source := made(t)
	want := tree(t, source)
	for name, flags := range map[string][]string{
		"posix": nil, "gnu": {"--format=gnu"}, "reversed": {"--format=posix"}, "one byte at a time": nil,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			archive := gnuTar(t, source, flags...)
			piece := 1 << 20
			if name == "one byte at a time" {
				archive, piece = archiveOf(t, file("a/b", "content"), directoryEntry("c", 0o700)), 1
			}
			result, err := g.pushTo("/workspace", archive, plenty, 1000, piece)
			if err != nil {
				t.Fatal(err)
			}
			g.nothingLeft()
			if name == "one byte at a time" {
				if len(tree(t, g.at(""))) != 3 || result != (Result{2, 7}) {
					t.Errorf("%v: %v", result, tree(t, g.at("")))
				}
				return
			}
			wanted := want
			if name == "gnu" {
				wanted = map[string]string{}
				for path, line := range want {
					// That format has whole seconds.
					for _, part := range []string{".789012345", ".500000000", ".000000001"} {
						line = strings.Replace(line, part, ".000000000", 1)
					}
					wanted[path] = line
				}
			}
			got := tree(t, g.at(""))
			if name == "gnu" {
				// GNU tar rounds times before 1970 its own way.
				delete(got, "dangling")
				delete(got, "hardsym")
				delete(wanted, "dangling")
				delete(wanted, "hardsym")
			}
			wantTree(t, got, wanted)
			if int(result.Entries) != len(want) {
				t.Errorf("%d entries, the tree has %d", result.Entries, len(want))
			}
		})
	}
}

func TestPushingOverATree(t *testing.T) {
	source := made(t)
	g := newGuest(t)
	g.write("src/deep/er/one", "old one, and longer")
	g.write("src/kept", "kept")
	g.write("many/5", "old")
	g.write("many/50", "kept")
	g.write("closed/in", "old")
	if err := os.Symlink("src/kept", g.at("writable")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(g.at("src/kept"), g.at("hard")); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(g.at("many/5"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	kept := tree(t, g.at(""))["many/50"]
	want := tree(t, source)
	want["many/50"] = kept
	g.mustPush(gnuTar(t, source))
	got := tree(t, g.at(""))
	if !strings.Contains(got["src/kept"], `"kept"`) {
		t.Errorf("src/kept: %s", got["src/kept"])
	}
	delete(got, "src/kept")
	wantTree(t, got, want)
	old := make([]byte, 10)
	if n, _ := open.Read(old); string(old[:n]) != "old" {
		t.Errorf("who has the old file open reads %q", old[:n])
	}
	g.nothingLeft()
	// And once more the same.
	g.mustPush(gnuTar(t, source))
	got = tree(t, g.at(""))
	delete(got, "src/kept")
	wantTree(t, got, want)
}

func TestDirectoriesThatNoEntryDescribes(t *testing.T) {
	g := newGuest(t)
	g.write("there/x", "x")
	if err := os.Chmod(g.at("there"), 0o710); err != nil {
		t.Fatal(err)
	}
	g.mustPush(archiveOf(t, file("there/new/er/f", "f"), file("b/c", "c")))
	for path, mode := range map[string]os.FileMode{"there": 0o710, "there/new": 0o755, "there/new/er": 0o755, "b": 0o755} {
		if info, err := os.Stat(g.at(path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
}

func TestTheDestination(t *testing.T) {
	archive := archiveOf(t, entry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, ModTime: when}, ""}, file("./f", "f"))
	for destination, at := range map[string]string{
		"/workspace": "", "/workspace/": "", "/workspace/a/b/c": "a/b/c", "/workspace//a/./b": "a/b", "/workspace/there": "there",
		"/workspace/odd\xff\nname": "odd\xff\nname",
	} {
		g := newGuest(t)
		if err := os.Mkdir(g.at("there"), 0o755); err != nil {
			t.Fatal(err)
		}
		result, err := g.pushTo(destination, archive, 10, 10, 100)
		if err != nil || result != (Result{1, 1}) {
			t.Errorf("%q: %v %v", destination, result, err)
			continue
		}
		if text, err := os.ReadFile(filepath.Join(g.at(at), "f")); err != nil || string(text) != "f" {
			t.Errorf("%q: %q %v", destination, text, err)
		}
		if info, err := os.Stat(g.at(at)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%q: the entry of the destination itself changed it: %v %v", destination, info.Mode(), err)
		}
	}
	for destination, kind := range map[string]Kind{
		"": Outside, "workspace": Outside, "/": Outside, "/workspaces": Outside, "/workspace/../etc": Outside, "/etc": Outside,
		"/workspace/file": Conflict, "/workspace/file/below": Conflict, "/workspace/link": Outside, "/workspace/link/x": Outside,
		"/workspace/" + strings.Repeat("x", 256): Archive,
	} {
		g := newGuest(t)
		g.write("file", "f")
		if err := os.Symlink("/tmp", g.at("link")); err != nil {
			t.Fatal(err)
		}
		before := tree(t, g.root)
		_, err := g.pushTo(destination, archive, 10, 10, 100)
		wantRefusal(t, err, kind)
		wantTree(t, tree(t, g.root), before)
	}
	g := newGuest(t)
	if err := os.Remove(g.at("")); err != nil {
		t.Fatal(err)
	}
	g.mustPush(archive)
	g = newGuest(t)
	if err := os.Remove(g.at("")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", g.at("")); err != nil {
		t.Fatal(err)
	}
	_, err := g.push(archive)
	wantRefusal(t, err, Outside)
}

func TestTheLastOfANameCounts(t *testing.T) {
	g := newGuest(t)
	g.mustPush(archiveOf(t, file("a", "1"), hardlink("b", "a"), file("a", "2"), symlink("c", "a"), file("c", "3"),
		file("d", "4"), symlink("d", "x"), directoryEntry("e", 0o700), directoryEntry("e", 0o750), hardlink("a", "a")))
	got := tree(t, g.at(""))
	for path, part := range map[string]string{"a": `"2"`, "b": `"1"`, "c": `"3"`, "d": "-> x", "e": "40750 "} {
		if !strings.Contains(got[path], part) {
			t.Errorf("%s is %s", path, got[path])
		}
	}
}

func sparseFile(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, text := range data {
		if _, err := f.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSparseFilesStaySparse(t *testing.T) {
	source := t.TempDir()
	const gib = 1 << 30
	files := map[string]map[int64]string{
		"ends in a hole":   {0: "begin", gib: strings.Repeat("data", 50_000)},
		"ends in data":     {12_345_678: "middle", 64<<20 - 3: "end"},
		"nothing but hole": {},
		"many":             {4096 * 10: "a", 4096 * 20: "b", 4096 * 40: "c", 300_000: "d", 700_000: strings.Repeat("e", 300_000)},
	}
	sizes := map[string]int64{"ends in a hole": 2 * gib, "nothing but hole": 64 << 20, "ends in data": 64 << 20, "many": 64 << 20}
	all := uint64(0)
	for name, data := range files {
		sparseFile(t, filepath.Join(source, name), sizes[name], data)
		all += uint64(sizes[name])
	}
	for _, flags := range [][]string{nil, {"--sparse-version=0.0"}, {"--sparse-version=0.1"}, {"--format=gnu"}} {
		g := newGuest(t)
		archive := gnuTar(t, source, flags...)
		if len(archive) > 4<<20 {
			t.Fatalf("the archive has %d bytes", len(archive))
		}
		begin := time.Now()
		result := g.mustPush(archive)
		t.Logf("%v: %v", flags, time.Since(begin))
		if result.Bytes != all {
			t.Errorf("bytes: %d", result.Bytes)
		}
		for name, data := range files {
			var stat, original syscall.Stat_t
			if err := syscall.Stat(g.at(name), &stat); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Stat(filepath.Join(source, name), &original); err != nil {
				t.Fatal(err)
			}
			if stat.Size != sizes[name] || stat.Blocks > original.Blocks+64 {
				t.Errorf("%v %s: %d bytes in %d blocks, the original has %d", flags, name, stat.Size, stat.Blocks, original.Blocks)
			}
			f, err := os.Open(g.at(name))
			if err != nil {
				t.Fatal(err)
			}
			for at, text := range data {
				got := make([]byte, len(text))
				if _, err := f.ReadAt(got, at); err != nil || string(got) != text {
					t.Errorf("%v %s: at %d: %v", flags, name, at, err)
				}
			}
			same := exec.Command("cmp", "-n", "2000000", g.at(name), filepath.Join(source, name))
			if text, err := same.CombinedOutput(); err != nil {
				t.Errorf("%v %s: %s", flags, name, text)
			}
			f.Close()
		}
	}
	// Blocks of zeros in a file that is not sparse are data.
	g := newGuest(t)
	g.mustPush(archiveOf(t, file("zeros", string(make([]byte, 1<<20)))))
	var stat unix.Stat_t
	if err := unix.Stat(g.at("zeros"), &stat); err != nil || stat.Blocks*512 < 1<<20 {
		t.Errorf("%d blocks, %v", stat.Blocks, err)
	}
}

func TestArchivesOfOtherTools(t *testing.T) {
	g := newGuest(t)
	// A comment on the whole, no end, a name with many dots and slashes.
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}}); err != nil {
		t.Fatal(err)
	}
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".//a/.//b", Mode: 0o600, Size: 3}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(writer, "abc")
	if err := writer.Flush(); err != nil {
		t.Fatal(err)
	}
	if result := g.mustPush(buffer.Bytes()); result != (Result{1, 3}) {
		t.Error(result)
	}
	if text, err := os.ReadFile(g.at("a/b")); err != nil || string(text) != "abc" {
		t.Errorf("%q %v", text, err)
	}
	// Nothing at all, and only an end.
	for _, archive := range [][]byte{nil, make([]byte, 512), make([]byte, 1024), make([]byte, 10240)} {
		if result := g.mustPush(archive); result != (Result{}) {
			t.Error(result)
		}
	}
	// What stands behind the end is nobody's.
	whole := archiveOf(t, file("c", "c"))
	g.mustPush(append(whole, "garbage"...))
}
