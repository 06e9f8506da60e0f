// This file owns finding the program: the search of PATH, as execvp does it.
package process

import (
	"os"
	"strings"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// getenv returns the first value of name in env.
func getenv(env []string, name string) (string, bool) {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// candidates are the paths to try for a program, in order; found tells whether there is a file at all under that
// name. A relative one is relative to cwd.
func candidates(name string, env []string, cwd string) (paths []string, found bool) {
	if strings.Contains(name, "/") {
		_, err := os.Stat(join(cwd, name))
		return []string{name}, err == nil
	}
	if name == "" {
		return nil, false
	}
	search, ok := getenv(env, "PATH")
	if !ok {
		search = defaultPath
	}
	for directory := range strings.SplitSeq(search, ":") {
		if directory == "" {
			directory = "."
		}
		path := directory + "/" + name
		info, err := os.Stat(join(cwd, path))
		if err != nil || info.IsDir() {
			continue
		}
		found = true
		if info.Mode()&0o111 != 0 {
			paths = append(paths, path)
		}
	}
	return paths, found
}

func join(cwd, path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return cwd + "/" + path
}
