// This file owns what names and modes a patch may have.
package patch

import "strings"

// Modes of git.
const (
	typeMask  = 0o170000
	plainFile = 0o100000
	link      = 0o120000
	submodule = 0o160000
)

// What the kernel takes.
const (
	mostName = 255
	mostPath = 4095
)

// checkName refuses what is not below the tree, and what git does not touch either. Errors: *Problem.
func checkName(name string) error {
	if len(name) > mostPath || strings.IndexByte(name, 0) >= 0 {
		return problem(Invalid, "", "%.100q is no name that a file can have", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return problem(Outside, "", "%s is no path below the workspace", quoted(name))
		case part == "." || part == "..":
			return problem(Outside, "", "%s is no path below the workspace", quoted(name))
		case strings.EqualFold(part, ".git"):
			return problem(Outside, "", "%s is git's own: no patch changes it", quoted(name))
		case len(part) > mostName:
			return problem(Invalid, "", "%.100q is no name that a file can have", name)
		}
	}
	return nil
}

// plain is the name of a change by git's rule: the first part of a name that has more is a label, such as a/ and b/. A section
// of git has none any more.
func (c *change) plain(name string) string {
	if c.git {
		return name
	}
	if below, ok := strings.CutPrefix(name, "/workspace/"); ok {
		return below
	}
	if _, rest, ok := strings.Cut(name, "/"); ok {
		return rest
	}
	return name
}

// checkMode refuses what is neither a file nor a link.
func checkMode(mode uint32, name string) error {
	switch mode & typeMask {
	case plainFile, link:
		return nil
	case 0:
		if mode == 0 {
			return nil
		}
	case submodule:
		return problem(Invalid, name, "%s is a submodule, which a patch cannot change", quoted(name))
	}
	return problem(Invalid, name, "%s has the mode %o, which is none of a file", quoted(name), mode)
}
