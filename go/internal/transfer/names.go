// This file owns what a name may be: in an archive, and of a destination.
package transfer

import "strings"

// What the kernel takes.
const (
	maxNameBytes = 255
	maxPathBytes = 4095
)

// clean returns the name of an entry relative to the destination, without empty and "." components; "" is the
// destination itself. Most names are clean already and cost no memory.
func clean(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", refuseEntry(Outside, name, "is absolute")
	}
	if len(name) > maxPathBytes {
		return "", refuseEntry(Archive, name, "is longer than %d bytes", maxPathBytes)
	}
	name = strings.TrimRight(strings.TrimPrefix(name, "./"), "/")
	untidy := false
	for rest := name; ; {
		part, after, more := strings.Cut(rest, "/")
		switch {
		case part == "..":
			return "", refuseEntry(Outside, name, "leads out with \"..\"")
		case part == "" || part == ".":
			untidy = true
		case len(part) > maxNameBytes:
			return "", refuseEntry(Archive, name, "has a part longer than %d bytes", maxNameBytes)
		}
		if !more {
			break
		}
		rest = after
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", refuseEntry(Archive, name, "holds a zero byte")
	}
	if !untidy {
		return name, nil
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), nil
}

// split returns the directory, "" for the top, and the name in it.
func split(path string) (directory, name string) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return "", path
	}
	return path[:at], path[at+1:]
}

// destinationParts returns the components of a destination below the root; the first is "workspace".
func destinationParts(destination string) ([]string, error) {
	below, ok := strings.CutPrefix(destination, "/"+workspace)
	if !ok || below != "" && below[0] != '/' {
		return nil, refuse(Outside, "the destination %.300q is not below /%s", destination, workspace)
	}
	path, err := clean(strings.TrimLeft(below, "/"))
	if err != nil {
		return nil, err
	}
	if path == "" {
		return []string{workspace}, nil
	}
	return append([]string{workspace}, strings.Split(path, "/")...), nil
}
