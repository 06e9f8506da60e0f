package files

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// pairsOfTest is how many pairs of trees there are unless PYRO_PATCH_PAIRS says otherwise.
	pairsOfTest = 20
	driftsEach  = 2
	damagesEach = 6
	fetchTries  = 3
	fetchTime   = 60 * time.Second
	// hopeless is how many pairs are tried when none can be fetched.
	hopeless = 2
	// noNewline is what git says below a last line without one.
	noNewline = "No newline at end of file"
)

// Patches between released versions of npm's packages make of one tree the other, exactly as git apply does it; so they do, or do
// not, of trees that have changed since; and damaged ones are refused alike.
//
// Packages are fetched by `npm pack` and kept below dist/. One that cannot be fetched is left out and told, and so is the test
// when most of them cannot: a network that is down says nothing of patches.
func TestPatchesOfPackages(t *testing.T) {
	wanted := fromEnvironment(t, "PYRO_PATCH_PAIRS", pairsOfTest)
	// The same choices each time, unless somebody wants others.
	seed := fromEnvironment(t, "PYRO_SEED", 1)
	t.Logf("PYRO_SEED=%d", seed)
	pairs := somePairs(t, wanted)
	missing, counts := 0, map[string]int{}
	for i, one := range pairs {
		before, err := unpacked(t, one.name, one.before)
		if err == nil {
			var after string
			if after, err = unpacked(t, one.name, one.after); err == nil {
				random := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
				testPair(t, one, before, after, random, counts)
			}
		}
		if err != nil {
			missing++
			t.Logf("left out: %s %s, %s: %v", one.name, one.before, one.after, err)
		}
		if missing == i+1 && missing == hopeless {
			t.Skipf("the first %d packages could not be fetched", hopeless)
		}
	}
	t.Logf("%d pairs of %d: %v", len(pairs)-missing, wanted, counts)
	if missing > len(pairs)/2 {
		t.Skipf("%d of %d packages could not be fetched", missing, len(pairs))
	}
	if counts["taken"] < len(pairs)-missing || counts["refused"] == 0 {
		t.Fatalf("too little was seen: %v", counts)
	}
}

type pair struct{ name, before, after string }

// testPair compares us with git over one pair of trees.
func testPair(t *testing.T, one pair, before, after string, random *rand.Rand, counts map[string]int) {
	options := [][]string{{}, {"-M"}, {"-M", "-C", "--find-copies-harder"}, {"-U1"}, {"-U8"}}[random.IntN(5)]
	after = enriched(t, after, random)
	text := gitDiff(t, before, after, options...)
	try := func(what, tree string, text []byte, damaged ...Kind) bool {
		t.Helper()
		taken, err := differ(t, tree, text, damaged...)
		if err != nil {
			kept := keep(t, tree, text)
			t.Errorf("%v, %v, %s: %v\nkept in %s", one, options, what, err, kept)
		}
		if taken {
			counts["taken"]++
		} else {
			counts["refused"]++
		}
		return taken
	}
	if !try("as it is", before, text) {
		t.Errorf("%v, %v: not taken", one, options)
	}
	for i := range driftsEach {
		try(fmt.Sprint("drift ", i), drifted(t, before, random), text)
	}
	for range damagesEach {
		damaged, how := damage(text, random)
		kinds := []Kind{BadPatch}
		// Git joins the last line of such a hunk with the one after it, which nobody meant.
		if strings.Contains(how, noNewline) {
			kinds = append(kinds, Reject)
		}
		try(how, before, damaged, kinds...)
	}
}

// enriched is a tree with what packages seldom have: links, modes, binary files, missing newlines, other line ends.
func enriched(t *testing.T, tree string, random *rand.Rand) string {
	t.Helper()
	made := t.TempDir()
	copyTree(t, tree, made)
	names := textFiles(t, made)
	for _, change := range []func(path string){
		func(path string) { check(t, os.Chmod(path, 0o755)) },
		func(path string) { check(t, os.Symlink("target of "+filepath.Base(path), path+".link")) },
		func(path string) {
			noise := make([]byte, 2000)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			check(t, os.WriteFile(path+".bin", noise, 0o644))
		},
		func(path string) { rewrite(t, path, func(data []byte) []byte { return bytes.TrimRight(data, "\n") }) },
		func(path string) {
			rewrite(t, path, func(data []byte) []byte { return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")) })
		},
		func(path string) { rewrite(t, path, func(data []byte) []byte { return append(data, 0, 1, 2) }) },
		func(path string) {
			check(t, os.MkdirAll(filepath.Join(made, "moved", "here"), 0o755))
			check(t, os.Rename(path, filepath.Join(made, "moved", "here", filepath.Base(path))))
		},
		func(path string) { check(t, os.Remove(path)); check(t, os.Symlink("it was a file", path)) },
	} {
		if len(names) > 0 && random.IntN(2) == 0 {
			at := random.IntN(len(names))
			change(names[at])
			names = append(names[:at], names[at+1:]...)
		}
	}
	return made
}

// drifted is a tree in whose files lines have come and gone.
func drifted(t *testing.T, tree string, random *rand.Rand) string {
	t.Helper()
	made := t.TempDir()
	copyTree(t, tree, made)
	for _, path := range textFiles(t, made) {
		if random.IntN(3) == 0 {
			continue
		}
		rewrite(t, path, func(data []byte) []byte {
			lines := bytes.SplitAfter(data, []byte("\n"))
			for range 1 + random.IntN(3) {
				at := random.IntN(len(lines))
				switch random.IntN(4) {
				case 0:
					lines = append(lines[:at:at], lines[min(at+1+random.IntN(5), len(lines)):]...)
				case 1:
					again := min(at+random.IntN(30), len(lines))
					lines = append(lines[:again:again], append(bytes.SplitAfter(bytes.Join(lines[at:again], nil), []byte("\n")), lines[again:]...)...)
				default:
					new := bytes.SplitAfter([]byte(strings.Repeat("something new\n", 1+random.IntN(20))), []byte("\n"))
					lines = append(lines[:at:at], append(new, lines[at:]...)...)
				}
				if len(lines) == 0 {
					return nil
				}
			}
			return bytes.Join(lines, nil)
		})
	}
	return made
}

// damage changes a patch a little, and says how.
func damage(text []byte, random *rand.Rand) ([]byte, string) {
	lines := bytes.SplitAfter(bytes.Clone(text), []byte("\n"))
	at := random.IntN(len(lines))
	join := func() []byte { return bytes.Join(lines, nil) }
	switch random.IntN(6) {
	case 0:
		where := random.IntN(len(text))
		damaged := bytes.Clone(text)
		damaged[where] = byte(' ' + random.IntN(95))
		return damaged, fmt.Sprintf("byte %d is %q", where, damaged[where])
	case 1:
		lines = append(lines[:at], lines[at+1:]...)
		return join(), fmt.Sprintf("without line %d", at+1)
	case 2:
		lines = append(lines[:at+1:at+1], lines[at:]...)
		return join(), fmt.Sprintf("line %d, %q, twice", at+1, lines[at])
	case 3:
		where := random.IntN(len(text))
		return text[:where], fmt.Sprintf("cut at %d", where)
	case 4:
		other := min(at+1, len(lines)-1)
		lines[at], lines[other] = lines[other], lines[at]
		return join(), fmt.Sprintf("line %d, %q, after %q", at+1, lines[other], lines[at])
	default:
		new := []string{"+new\n", "-old\n", " more\n", "@@ -1 +1 @@\n", "\\ " + noNewline + "\n", "\n", "garbage\n"}[random.IntN(7)]
		lines = append(lines[:at:at], append([][]byte{[]byte(new)}, lines[at:]...)...)
		return join(), fmt.Sprintf("%q before line %d", new, at+1)
	}
}

// keep leaves what we and git differ over where it can be looked at.
func keep(t *testing.T, tree string, text []byte) string {
	directory, err := os.MkdirTemp("", "pyro-differ-")
	check(t, err)
	check(t, os.Mkdir(directory+"/tree", 0o755))
	copyTree(t, tree, directory+"/tree")
	check(t, os.WriteFile(directory+"/patch", text, 0o644))
	return directory
}

func textFiles(t *testing.T, tree string) []string {
	t.Helper()
	var names []string
	check(t, filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, change(data), 0o644))
}

// somePairs takes the first pair of each package, then the second, and so on; every other is taken backwards.
func somePairs(t *testing.T, wanted int) []pair {
	t.Helper()
	file, err := os.Open("testdata/packages.txt")
	check(t, err)
	defer file.Close()
	var packages [][]string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 2 && words[0] != "#" {
			packages = append(packages, words)
		}
	}
	var pairs []pair
	for _, backwards := range []bool{false, true} {
		for number := 1; number < 10; number++ {
			for i, words := range packages {
				if number+1 >= len(words) {
					continue
				}
				one := pair{words[0], words[number], words[number+1]}
				if backwards != (i%2 == 1) {
					one.before, one.after = one.after, one.before
				}
				if pairs = append(pairs, one); len(pairs) == wanted {
					return pairs
				}
			}
		}
	}
	return pairs
}

// unpacked is a released version of a package.
func unpacked(t *testing.T, name, version string) (string, error) {
	kept := filepath.Join("..", "..", "..", "dist", "packages")
	check(t, os.MkdirAll(kept, 0o755))
	archive := filepath.Join(kept, name+"-"+version+".tgz")
	var err error
	for range fetchTries {
		if _, err = os.Stat(archive); err == nil {
			break
		}
		err = fetch(t, name, version, archive)
	}
	if err != nil {
		return "", err
	}
	made := t.TempDir()
	// Some begin with another directory than package/, and some have modes that git does not know.
	output, err := exec.Command("tar", "-xzf", archive, "-C", made, "--strip-components=1", "--no-same-owner", "--mode=u+rwX,go-w").CombinedOutput()
	if err != nil {
		// Not whole: another try fetches it again.
		_ = os.Remove(archive)
		return "", fmt.Errorf("tar: %w: %s", err, output)
	}
	return made, nil
}

func fetch(t *testing.T, name, version, archive string) error {
	// Beside, then renamed: half of one is none.
	directory, err := os.MkdirTemp(filepath.Dir(archive), "fetch-")
	check(t, err)
	defer os.RemoveAll(directory)
	command := exec.Command("npm", "pack", "--silent", "--pack-destination", directory, name+"@"+version)
	// npm's own cache of compiled code would be left behind.
	command.Env = append(os.Environ(), "NODE_DISABLE_COMPILE_CACHE=1")
	command.WaitDelay = time.Second
	timer := time.AfterFunc(fetchTime, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack: %w: %.300s", err, output)
	}
	return os.Rename(filepath.Join(directory, filepath.Base(archive)), archive)
}

func fromEnvironment(t *testing.T, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s is no number", name, text)
	}
	return value
}
