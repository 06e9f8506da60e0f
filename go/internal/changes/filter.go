// This file owns which paths are looked at, and which git would not have in a patch.
package changes

import "strings"

// filter says which paths are looked at.
type filter struct {
	paths []string
	seen  []bool
}

func newFilter(paths []string) *filter { return &filter{paths: paths, seen: make([]bool, len(paths))} }

// wants says whether a path is one of those that are looked at, or below one.
func (f *filter) wants(path string) bool {
	if len(f.paths) == 0 {
		return !isGitsOwn(path)
	}
	wanted := false
	for i, one := range f.paths {
		if !isWithin(path, one) {
			continue
		}
		f.seen[i] = true
		// What git keeps for itself is looked at where it is asked for.
		if isGitsOwn(one) || !isGitsOwn(path) {
			wanted = true
		}
	}
	return wanted
}

// enters says whether something that is looked at is below a directory.
func (f *filter) enters(directory string) bool {
	if f.wants(directory) {
		return true
	}
	if len(f.paths) == 0 {
		return directory == ""
	}
	for _, one := range f.paths {
		if isWithin(one, directory) {
			return true
		}
	}
	return false
}

// missing returns a path at which nothing is, and nothing was.
func (f *filter) missing() (string, bool) {
	for i, seen := range f.seen {
		if !seen && f.paths[i] != "" {
			return f.paths[i], true
		}
	}
	return "", false
}

func isWithin(path, directory string) bool {
	return directory == "" || path == directory || strings.HasPrefix(path, directory) && path[len(directory)] == '/'
}

// isGitsOwn says whether a part of a path is the name under which git keeps its own things.
func isGitsOwn(path string) bool {
	return path == ".git" || strings.HasPrefix(path, ".git/") || strings.HasSuffix(path, "/.git") || strings.Contains(path, "/.git/")
}

// isPatchable says whether git takes a path in a patch: it refuses names that some system would take for .git.
func isPatchable(path string, isLink bool) bool {
	for part := range strings.SplitSeq(path, "/") {
		if looksLike(part, ".git") || looksLike(part, "git~1") {
			return false
		}
		if isLink && (looksLike(part, ".gitmodules") || looksLike(part, "gitmod~1")) {
			return false
		}
	}
	return true
}

// looksLike compares as Windows does: without case, without dots and spaces at the end, up to what begins another stream.
func looksLike(part, name string) bool {
	if len(part) < len(name) || !strings.EqualFold(part[:len(name)], name) {
		return false
	}
	rest := strings.TrimLeft(part[len(name):], ". ")
	return rest == "" || rest[0] == ':' || rest[0] == '\\'
}
