package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// differ applies a patch to a copy of a tree, and has git apply it to another. Both must take it or both refuse it; taken, it must
// make the same tree, and refused it must have changed nothing. It says whether it was taken. Of a patch that was damaged git may
// take what it understands, even with an error on its lips; it is no fault then to refuse it as one of those kinds.
func differ(t testing.TB, before string, text []byte, damaged ...Kind) (taken bool, err error) {
	t.Helper()
	g := newGuest(t)
	copyTree(t, before, g.at(""))
	_, ours := g.Patch(timed(t), g.id(), text)

	theirs := t.TempDir()
	copyTree(t, before, theirs)
	output, gitErr := gitIn(theirs, text, "apply", "--whitespace=nowarn", "-")
	var refusal *Refusal
	stricter := errors.As(ours, &refusal) && slices.Contains(damaged, refusal.Kind)
	switch {
	case (ours == nil) != (gitErr == nil) && !stricter:
		return false, fmt.Errorf("we said %v, and git said %v: %s", ours, gitErr, output)
	case ours == nil:
		if difference := compare(plainTree(t, theirs), plainTree(t, g.at(""))); difference != "" {
			return true, fmt.Errorf("git made another tree: %s", difference)
		}
	default:
		if difference := compare(treeOf(t, before), g.tree()); difference != "" {
			return false, fmt.Errorf("refused with %v, and changed: %s", ours, difference)
		}
	}
	return ours == nil, nil
}

// gitIn runs git where there is no repository, with nobody's settings.
func gitIn(directory string, input []byte, args ...string) (string, error) {
	command := exec.Command("git", args...)
	command.Dir = directory
	command.Stdin = bytes.NewReader(input)
	command.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(directory), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	output, err := command.CombinedOutput()
	return string(output), err
}

// gitDiff is what git says is between two trees.
func gitDiff(t testing.TB, before, after string, options ...string) []byte {
	t.Helper()
	repository := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		output, err := gitIn(repository, nil, args...)
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, output)
		}
		return strings.TrimSpace(output)
	}
	run("init", "-q")
	trees := make([]string, 0, 2)
	for _, tree := range []string{before, after} {
		run("--work-tree="+tree, "-c", "core.autocrlf=false", "add", "-A", "-f", ".")
		trees = append(trees, run("write-tree"))
	}
	args := append([]string{"diff-tree", "-r", "-p", "--binary", "--full-index"}, options...)
	command := exec.Command("git", append(args, trees...)...)
	command.Dir = repository
	text, err := command.Output()
	check(t, err)
	return text
}

// plainTree is a tree as git knows it: files are executable or not.
func plainTree(t testing.TB, top string) map[string]string {
	tree := treeOf(t, top)
	for name, value := range tree {
		mode, rest, _ := strings.Cut(value, " ")
		switch mode[0] {
		case '-':
			tree[name] = fmt.Sprintf("file %v %s", mode[3] == 'x', rest)
		case 'L':
			tree[name] = "link " + rest
		default:
			tree[name] = mode[:1]
		}
	}
	return tree
}

func compare(want, got map[string]string) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	var all []string
	for name, value := range want {
		if other, ok := got[name]; !ok {
			all = append(all, "- "+name)
		} else if other != value {
			all = append(all, fmt.Sprintf("! %s: %.200q, and not %.200q", name, other, value))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			all = append(all, "+ "+name)
		}
	}
	slices.Sort(all)
	return strings.Join(all[:min(len(all), 10)], "\n")
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if output, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, output)
	}
}

// made is a directory with these files, as guest.make makes them; a name that begins with "+" is executable.
func madeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, content := range files {
		executable := strings.HasPrefix(name, "+")
		name = strings.TrimPrefix(name, "+")
		link, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(top, link)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if isLink {
			check(t, os.Symlink(target, path))
			continue
		}
		mode := os.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		check(t, os.WriteFile(path, []byte(content), mode))
	}
	return top
}
