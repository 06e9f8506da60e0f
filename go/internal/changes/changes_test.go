package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t testing.TB, path, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o644))
}

func lineList(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestEveryKindOfChange(t *testing.T) {
	binary := "\x00\x01" + strings.Repeat("binary", 100)
	g := newGround(t, func(w string) {
		for name, content := range map[string]string{
			"same": "same\n", "edited": lineList(0, 100), "gone": "gone\n", "script": "#!/bin/sh\n", "private": "p\n",
			"no-newline": "a\nb", "gets-newline": "a\nb", "emptied": "x\n", "empty": "", "empty-gone": "",
			"binary": binary, "binary-gone": binary, "to-link": "file\n", "to-directory": "file\n", "touched": "touched\n",
			"dir/a": "a\n", "dir/b/c": "c\n", "moved/from/here": lineList(0, 30), "name with spaces": "1\n",
			"new\nline": "1\n", "quo\"te\\": "1\n", "\xff\xfe.latin": "1\n", "tab\t": "1\n", " lead": "1\n", "-dash": "1\n", "ünï": "1\n",
			"becomes-empty/only": "1\n", ".git/config": "[core]\n", "sub/.git/HEAD": "x", "fifo-to-be": "1\n", "latin1": "caf\xe9\n",
			"crlf": "a\r\nb\r\n",
		} {
			write(t, w+"/"+name, content)
		}
		check(t, os.Symlink("same", w+"/link"))
		check(t, os.Symlink("same", w+"/link-gone"))
		check(t, os.Symlink("same", w+"/link-to-file"))
		check(t, os.Symlink("same", w+"/link-to-directory"))
		check(t, os.Mkdir(w+"/empty-directory", 0o755))
		check(t, os.Mkdir(w+"/empty-directory-gone", 0o755))
		check(t, os.Mkdir(w+"/filled-directory", 0o755))
	})
	nothing := g.compare()
	if len(nothing.changes) != 0 || len(nothing.patch) != 0 || nothing.summary.FilesRead != 0 {
		t.Fatalf("of an unchanged tree: %v", nothing)
	}
	write(t, g.at("edited"), lineList(0, 50)+"new\n"+lineList(51, 90))
	write(t, g.at("no-newline"), "a\nc")
	write(t, g.at("gets-newline"), "a\nb\n")
	write(t, g.at("emptied"), "")
	write(t, g.at("empty"), "no more")
	write(t, g.at("binary"), binary+"more")
	write(t, g.at("binary-new"), "\x00new")
	write(t, g.at("touched"), "touched\n")
	write(t, g.at("added/deep/er"), "x\n")
	write(t, g.at("added/empty"), "")
	write(t, g.at("filled-directory/x"), "x\n")
	write(t, g.at(".git/config"), "[changed]\n")
	write(t, g.at("sub/.git/HEAD"), "y")
	write(t, g.at(".GIT/config"), "no git's\n")
	write(t, g.at("latin1"), "caf\xe8\n")
	write(t, g.at("crlf"), "a\r\nc\r\n")
	for _, name := range []string{"name with spaces", "new\nline", "quo\"te\\", "\xff\xfe.latin", "tab\t", " lead", "-dash", "ünï"} {
		write(t, g.at(name), "2\n")
		write(t, g.at("new of "+name), "2")
	}
	check(t, os.Chmod(g.at("script"), 0o755))
	check(t, os.Chmod(g.at("private"), 0o600))
	for _, name := range []string{
		"gone", "binary-gone", "empty-gone", "to-link", "to-directory", "link", "link-gone", "link-to-file", "link-to-directory",
		"becomes-empty/only", "fifo-to-be", "empty-directory-gone",
	} {
		check(t, os.Remove(g.at(name)))
	}
	check(t, os.Symlink("elsewhere", g.at("link")))
	check(t, os.Symlink("../out\nside", g.at("link-new")))
	check(t, os.Symlink("same", g.at("to-link")))
	write(t, g.at("link-to-file"), "file\n")
	write(t, g.at("link-to-directory/in/it"), "file\n")
	write(t, g.at("to-directory/in/it"), "file\n")
	check(t, os.RemoveAll(g.at("dir")))
	write(t, g.at("dir"), "now a file\n")
	check(t, os.Rename(g.at("moved/from/here"), g.at("moved/there")))
	check(t, unix.Mkfifo(g.at("fifo-to-be"), 0o644))
	check(t, unix.Mkfifo(g.at("fifo"), 0o644))
	check(t, os.Mkdir(g.at("new-empty-directory"), 0o755))
	check(t, os.Chmod(g.at("becomes-empty"), 0o700))

	found := g.compare()
	copied := g.applied(found.patch)
	// What git cannot be given is left as it is in the workspace.
	check(t, os.RemoveAll(copied+"/.GIT"))
	check(t, os.RemoveAll(g.at(".GIT-checked")))
	check(t, os.Rename(g.at(".GIT"), g.root+"/.GIT"))
	g.sameAsWorkspace(copied)
	want := []string{
		"A .GIT/config +1 -0 (not in the patch)",
		"M becomes-empty (not in the patch)", "D becomes-empty/only +0 -1",
		"M binary", "D binary-gone", "A binary-new",
		"T dir +1 -0", "D dir/a +0 -1", "D dir/b/c +0 -1",
		"D empty-directory-gone (not in the patch)", "A fifo (not in the patch)", "T fifo-to-be +0 -1 (not in the patch)",
		"T link-to-directory", "T link-to-file +1 -1", "T to-directory +0 -1", "T to-link +1 -1",
		"M script", "M private (not in the patch)", "A new-empty-directory (not in the patch)",
		"M gets-newline +1 -1", "A filled-directory/x +1 -0", "D empty-gone", "A added/empty", "M link", "A link-new", "D link-gone",
		"D moved/from/here +0 -30", "A moved/there +30 -0", "M edited +1 -11",
	}
	// It is in no patch, and so nobody counts its lines.
	want[0] = "A .GIT/config (not in the patch)"
	lines := summaryOf(found.changes)
	for _, line := range want {
		if !slices.Contains(lines, line) {
			t.Errorf("not told: %s", line)
		}
	}
	for _, line := range lines {
		if strings.Contains(line, ".git/") || strings.Contains(line, "touched") || strings.HasSuffix(line, " same") {
			t.Errorf("told: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("told was:\n%s\n%.5000s", strings.Join(lines, "\n"), found.patch)
	}
}

func TestPathsAndGitsOwn(t *testing.T) {
	g := newGround(t, func(w string) {
		write(t, w+"/src/a", "a\n")
		write(t, w+"/src/deep/b", "b\n")
		write(t, w+"/srcs", "c\n")
		write(t, w+"/gone/x", "x\n")
		write(t, w+"/.git/config", "x\n")
	})
	write(t, g.at("src/a"), "2\n")
	write(t, g.at("src/deep/new/c"), "2\n")
	write(t, g.at("srcs"), "2\n")
	write(t, g.at("other/new"), "2\n")
	write(t, g.at(".git/config"), "2\n")
	check(t, os.RemoveAll(g.at("gone")))
	for path, want := range map[string]string{
		"src": "M src/a|A src/deep/new/c", "src/a": "M src/a", "srcs": "M srcs", "src/deep": "A src/deep/new/c",
		"src/deep/b": "", "gone": "D gone/x", "gone/x": "D gone/x", ".git": "M .git/config", ".git/config": "M .git/config",
		"other/new": "A other/new", "other": "A other/new", "": "D gone/x|A other/new|M src/a|A src/deep/new/c|M srcs",
	} {
		var lines []string
		for _, change := range g.compare(path).changes {
			lines = append(lines, fmt.Sprintf("%c %s", " AMDT"[change.Status], change.Path))
		}
		if got := strings.Join(lines, "|"); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	var missing *MissingError
	if _, err := g.try(t.Context(), "src", "never/was"); !errors.As(err, &missing) || missing.Path != "never/was" {
		t.Errorf("a path that never was: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.try(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What did not change is not opened.
func TestTenThousandFilesAreNotRead(t *testing.T) {
	g := newGround(t, func(w string) {
		for i := range 10_000 {
			write(t, fmt.Sprintf("%s/d%d/f%d", w, i%100, i), "content\n")
		}
	})
	for i := range 10 {
		write(t, g.at(fmt.Sprintf("d%d/f%d", i, i)), "other\n")
	}
	found := g.compare()
	// Each side of each change is read once to be compared, and once to be written down where its size is the same.
	if len(found.changes) != 10 || found.summary.FilesRead > 40 || found.summary.Entries < 20_000 {
		t.Fatalf("%d changes, %+v", len(found.changes), found.summary)
	}
}

func TestWhatIsLarge(t *testing.T) {
	large := strings.Repeat("a line of a large file\n", MostContent/23)
	g := newGround(t, func(w string) {
		write(t, w+"/binary", large[:MostContent-100])
		write(t, w+"/too-large", large+large)
		write(t, w+"/grows", "x\n")
		write(t, w+"/same", large+large)
	})
	write(t, g.at("binary"), "z"+large[:MostContent-101])
	write(t, g.at("too-large"), "y"+large+large)
	write(t, g.at("grows"), large+large)
	check(t, os.Chtimes(g.at("same"), g.time(), g.time()))
	found := g.compare()
	want := []string{"M binary", "M grows (not in the patch)", "M too-large (not in the patch)"}
	if got := summaryOf(found.changes); !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
	copied := g.applied(found.patch)
	got, err := os.ReadFile(copied + "/binary")
	check(t, err)
	if !bytes.Equal(got, []byte("z"+large[:MostContent-101])) {
		t.Fatal("the large file is another")
	}
}

// A manifest that is damaged, and a baseline without the file that it lists, are told.
func TestADamagedBaseline(t *testing.T) {
	g := newGround(t, func(w string) { write(t, w+"/a", "a\n") })
	write(t, g.at("a"), "b\n")
	check(t, os.Remove(g.layer+"/"+Workspace+"/a"))
	if _, err := g.try(t.Context()); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a file that is missing: %v", err)
	}
	g.manifest[len(g.manifest)-1] ^= 1
	if _, err := g.try(t.Context()); err == nil {
		t.Error("a damaged manifest was taken")
	}
}

// Whatever is done to a tree, git makes of what it was what it is.
func TestRandomTrees(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing")
	}
	seed := uint64(1)
	if _, err := fmt.Sscan(os.Getenv("PYRO_SEED"), &seed); err == nil {
		t.Logf("PYRO_SEED=%d", seed)
	}
	rounds := 12
	if _, err := fmt.Sscan(os.Getenv("PYRO_DIFF_ROUNDS"), &rounds); err == nil {
		t.Logf("%d rounds", rounds)
	}
	for round := range rounds {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		g := newGround(t, func(w string) {
			edits(t, random, w, 60)
			// Git removes no directory that it does not know of, and so makes nothing in the place of one.
			check(t, exec.Command("find", w, "-mindepth", "1", "-type", "d", "-empty", "-delete").Run())
		})
		edits(t, random, g.root+"/"+Workspace, 60)
		g.sameAsWorkspace(g.applied(g.compare().patch))
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}
