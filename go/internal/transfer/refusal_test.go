package transfer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRefusalsOfTheArchive(t *testing.T) {
	long := strings.Repeat("x", 256)
	deep := strings.Repeat("d/", 2100)
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write(archiveOf(t, file("a", "a")))
	zip.Close()
	noise := make([]byte, 5000)
	_, _ = rand.Read(noise)
	broken := archiveOf(t, file("a", "a"))
	broken[2] ^= 1
	one := func(entries ...entry) []byte {
		return archiveOf(t, append([]entry{file("before", "b"), directoryEntry("dir", 0o700)}, entries...)...)
	}
	for name, c := range map[string]struct {
		archive []byte
		kind    Kind
		words   string
	}{
		"absolute":                      {one(file("/etc/passwd", "x")), Outside, `"/etc/passwd"`},
		"parent":                        {one(file("../x", "x")), Outside, `"../x"`},
		"parent inside":                 {one(file("dir/../x", "x")), Outside, ".."},
		"parent at the end":             {one(directoryEntry("dir/..", 0o700)), Outside, ".."},
		"through a link":                {one(symlink("l", "/etc"), file("l/passwd", "x")), Outside, `"l"`},
		"through a link to the inside":  {one(symlink("l", "dir"), file("l/x", "x")), Outside, `"l"`},
		"through a link, deeper":        {one(symlink("l", "dir"), file("l/y/x", "x")), Outside, `"l"`},
		"directory and link":            {one(symlink("l", "dir"), directoryEntry("l", 0o700)), Archive, `"l"`},
		"link to outside":               {one(hardlink("h", "../../etc/passwd")), Outside, ".."},
		"link to an absolute":           {one(hardlink("h", "/etc/passwd")), Outside, "absolute"},
		"link to nothing":               {one(hardlink("h", "none")), Archive, "none"},
		"link to what comes later":      {one(hardlink("h", "late"), file("late", "x")), Archive, "late"},
		"link to itself":                {one(hardlink("h", "h")), Archive, "itself"},
		"link to a directory":           {one(hardlink("h", "dir")), Archive, "dir"},
		"link below a file":             {one(hardlink("h", "before/x")), Archive, "before/x"},
		"link to the destination":       {one(hardlink("h", ".")), Archive, `"h"`},
		"device":                        {one(special("d", tar.TypeChar)), Archive, "device"},
		"block device":                  {one(special("d", tar.TypeBlock)), Archive, "device"},
		"fifo":                          {one(special("f", tar.TypeFifo)), Archive, "fifo"},
		"unknown kind":                  {one(special("v", 'V')), Archive, `"V"`},
		"file, then directory":          {one(file("x", "x"), directoryEntry("x", 0o700)), Archive, `"x"`},
		"directory, then file":          {one(file("dir", "x")), Archive, `"dir"`},
		"file, then below it":           {one(file("before/x", "x")), Archive, `"before"`},
		"implied directory, then file":  {one(file("i/x", "x"), file("i", "x")), Archive, `"i"`},
		"file for the destination":      {one(file(".", "x")), Archive, "destination"},
		"long part":                     {one(file(long, "x")), Archive, "255"},
		"long path":                     {one(file(deep+"x", "x")), Archive, "4095"},
		"gzip":                          {zipped.Bytes(), Archive, "cut short"},
		"noise":                         {noise, Archive, "tar"},
		"text":                          {bytes.Repeat([]byte("hello\n"), 1000), Archive, "tar"},
		"short text":                    {[]byte("hello\n"), Archive, "cut short"},
		"wrong checksum":                {broken, Archive, "tar"},
		"bytes behind the first entry":  {append(unended(one()), noise...), Archive, "tar"},
		"link to no name":               {one(special("s", tar.TypeSymlink)), Archive, "no possible name"},
		"control characters":            {one(file("../\x1b[2J\n\xff", "x")), Outside, `"../\x1b[2J\n\xff"`},
		"link target, control sequence": {one(hardlink("h", "\x1b[2J")), Archive, `"\x1b[2J"`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.write("dir/old", "old")
			before := tree(t, g.at(""))
			_, err := g.push(c.archive)
			wantRefusal(t, err, c.kind, c.words)
			wantTree(t, tree(t, g.at("")), before)
			g.nothingLeft()
			// And to nowhere: parents are made for nobody.
			if _, err := g.pushTo("/workspace/new/place", c.archive, plenty, 1000, 777); err == nil {
				t.Error("not refused")
			}
			wantTree(t, tree(t, g.at("")), before)
		})
	}
}

// unended is an archive without the blocks of zeros at its end.
func unended(archive []byte) []byte { return archive[:len(archive)-1024] }

func TestRefusalsOfTheWorkspace(t *testing.T) {
	for name, c := range map[string]struct {
		entry entry
		kind  Kind
		words string
	}{
		"file over a directory":           {file("other", "x"), Conflict, `"/workspace/other"`},
		"link over a directory":           {symlink("dir/empty", "x"), Conflict, `"/workspace/dir/empty"`},
		"directory over a file":           {directoryEntry("file", 0o700), Conflict, `"/workspace/file"`},
		"below a file":                    {file("file/x", "x"), Conflict, `"/workspace/file"`},
		"directory over a link":           {directoryEntry("link", 0o700), Conflict, `"/workspace/link"`},
		"below a link":                    {file("link/x", "x"), Outside, `"/workspace/link"`},
		"below a link, deeper":            {file("dir/link/y/x", "x"), Outside, `"/workspace/dir/link"`},
		"directory below a link":          {directoryEntry("link/sub", 0o700), Outside, `"/workspace/link"`},
		"directory over a link to nobody": {directoryEntry("dir/broken", 0o700), Conflict, `"/workspace/dir/broken"`},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.write("file", "old")
			g.write("dir/file", "old")
			outside := t.TempDir()
			for path, target := range map[string]string{"link": outside, "dir/link": "..", "dir/broken": "nowhere"} {
				if err := os.Symlink(target, g.at(path)); err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{"dir/empty", "other"} {
				if err := os.Mkdir(g.at(path), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, g.at(""))
			_, err := g.push(archiveOf(t, file("aaa", "new"), file("dir/file", "new"), c.entry, file("zzz", "new")))
			wantRefusal(t, err, c.kind, c.words)
			wantTree(t, tree(t, g.at("")), before)
			if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
				t.Errorf("outside: %v %v", left, err)
			}
			g.nothingLeft()
		})
	}
}

func TestMountsInTheWorkspaceAreInTheWay(t *testing.T) {
	g := newGuest(t)
	g.write("mounted/x", "x")
	if err := unix.Mount("none", g.at("mounted"), "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	defer unix.Unmount(g.at("mounted"), unix.MNT_DETACH)
	_, err := g.push(archiveOf(t, file("mounted/y", "y")))
	wantRefusal(t, err, Conflict, "another file system")
	_, err = g.pushTo("/workspace/mounted", archiveOf(t, file("y", "y")), 10, 10, 100)
	wantRefusal(t, err, Conflict, "another file system")
}

func TestLimits(t *testing.T) {
	g := newGuest(t)
	three := archiveOf(t, file("a", "12345"), directoryEntry("d", 0o700), file("b", "12345"))
	if _, err := g.pushTo("/workspace", three, 10, 3, 1000); err != nil {
		t.Fatal(err)
	}
	_, err := g.pushTo("/workspace", three, 9, 3, 1000)
	wantRefusal(t, err, Limit, "9 bytes")
	_, err = g.pushTo("/workspace", three, 10, 2, 1000)
	wantRefusal(t, err, Limit, "2 entries")
	_, err = g.pushTo("/workspace", archiveOf(t, file("a", "1")), 0, 2, 1000)
	wantRefusal(t, err, Limit)
	// What a header claims is refused before anything is written, though nothing of it is there.
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Mode: 0o600, Size: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	_, err = g.pushTo("/workspace", buffer.Bytes(), 1<<34, 10, 100)
	wantRefusal(t, err, Limit)
	g.nothingLeft()
}

func TestDirectoriesAreBoundedByMemory(t *testing.T) {
	g := newGuest(t)
	g.memory.Store(10 * (directoryBytes + 2))
	var entries []entry
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		entries = append(entries, directoryEntry(name, 0o700))
	}
	_, err := g.push(archiveOf(t, entries...))
	wantRefusal(t, err, Limit, "directories")
	g.mustPush(archiveOf(t, entries[:10]...))
	if g.memory.Load() != 10*(directoryBytes+2) {
		t.Errorf("memory: %d", g.memory.Load())
	}
}

func TestAFullDisk(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	if err := os.Mkdir(root+"/"+workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	g := openGuest(t, root)
	g.write("old", "old")
	before := tree(t, g.at(""))
	_, err := g.push(archiveOf(t, file("old", "new"), file("large", strings.Repeat("x", 4<<20))))
	wantRefusal(t, err, Full)
	wantTree(t, tree(t, g.at("")), before)
	g.nothingLeft()
	// Room for the content, but not for putting it in place.
	_, err = g.push(archiveOf(t, file("old", "new"), file("large", strings.Repeat("x", 2<<20))))
	wantRefusal(t, err, Full)
	wantTree(t, tree(t, g.at("")), before)
	g.mustPush(archiveOf(t, file("old", "new")))
}

func TestCutAtEveryByte(t *testing.T) {
	archive := unended(archiveOf(t, file("first", strings.Repeat("x", 700)), symlink("s", "t"), file("dir/second", "y"), directoryEntry("d", 0o700)))
	// Where an entry ends, with its padding: found by what is behind it.
	ends := map[int]bool{0: true}
	for count := 1; count <= 4; count++ {
		entries := []entry{file("first", strings.Repeat("x", 700)), symlink("s", "t"), file("dir/second", "y"), directoryEntry("d", 0o700)}
		ends[len(unended(archiveOf(t, entries[:count]...)))] = true
	}
	g := newGuest(t)
	for length := range len(archive) + 1 {
		_, err := g.pushTo("/workspace", archive[:length], plenty, 1000, 1<<20)
		if ends[length] {
			if err != nil {
				t.Errorf("whole entries, %d bytes: %v", length, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("cut at %d, and taken", length)
			continue
		}
		wantRefusal(t, err, Archive)
	}
	g.nothingLeft()
}
