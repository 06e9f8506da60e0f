package flatten

import (
	"archive/tar"
	"fmt"
	"path"
	"slices"
	"strings"
)

// model is a file system as one map from whole paths, changed by one entry after the other in the plainest way there is.
type model struct {
	limits  Limits
	files   map[string]*modelFile
	layers  map[string]int
	layer   int
	entries int
	content int64
}

type modelFile struct {
	entry
	kind byte
}

const (
	refusedEntry = "entry"
	refusedLimit = "limit"
)

func newModel(limits Limits) *model {
	root := &modelFile{kind: tar.TypeDir}
	return &model{limits: limits, files: map[string]*modelFile{"": root}, layers: map[string]int{}}
}

func (m *model) apply(layers [][]entry) string {
	for n, layer := range layers {
		m.layer = n
		for _, one := range layer {
			if refused := m.one(one); refused != "" {
				return refused
			}
		}
	}
	return ""
}

// climbs says whether a path leaves the root, and what is left of it without dots.
func climbs(name string) (string, bool) {
	depth := 0
	for _, part := range strings.Split(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "", true
			}
		default:
			depth++
		}
	}
	return strings.Trim(path.Clean("/"+name), "/"), false
}

// resolve follows links and gives the path of the directory that name stands for; missing ones are made.
func (m *model) resolve(name string, make bool) (at, refused string, there bool) {
	links := 0
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		next := strings.TrimPrefix(at+"/"+part, "/")
		file := m.files[next]
		if file == nil {
			if !make {
				return "", "", false
			}
			if m.entries++; m.entries > m.limits.Entries {
				return "", refusedLimit, false
			}
			if len(next) > 4095 {
				return "", refusedEntry, false
			}
			file = &modelFile{entry{tar.Header{Mode: 0o755}, ""}, tar.TypeDir}
			m.files[next], m.layers[next] = file, m.layer
		}
		switch file.kind {
		case tar.TypeDir:
			at = next
		case tar.TypeSymlink:
			if links++; links > 40 {
				return "", refusedEntry, false
			}
			if strings.HasPrefix(file.Linkname, "/") {
				at = ""
			}
			todo = append(strings.Split(file.Linkname, "/"), todo...)
		default:
			return "", refusedEntry, false
		}
	}
	return at, "", true
}

func (m *model) one(one entry) string {
	if m.entries++; m.entries > m.limits.Entries {
		return refusedLimit
	}
	name, out := climbs(one.Name)
	if out || len(one.Name) > 4096 {
		return refusedEntry
	}
	size := one.Size
	if one.content != "" {
		size = int64(len(one.content))
	}
	directory, base := path.Split(name)
	switch {
	case name == "":
		if one.Typeflag != tar.TypeDir {
			return refusedEntry
		}
		return ""
	case slices.Contains(strings.Split(name, "/"), ".wh..wh.plnk"):
		return ""
	case strings.HasPrefix(base, ".wh."):
		return m.whiteout(directory, strings.TrimPrefix(base, ".wh."))
	}
	at, refused, _ := m.resolve(directory, true)
	if refused != "" {
		return refused
	}
	made := &modelFile{one, one.Typeflag}
	full := strings.TrimPrefix(at+"/"+base, "/")
	switch one.Typeflag {
	case tar.TypeLink:
		if made, refused = m.target(one); refused != "" {
			return refused
		}
	case tar.TypeReg:
		if m.content += size; size > m.limits.UnpackedBytes || m.content > m.limits.UnpackedBytes {
			return refusedLimit
		}
	case tar.TypeSymlink:
		if len(one.Linkname) > 4095 {
			return refusedEntry
		}
		made.Mode = 0o777
	}
	if len(full) > 4095 {
		return refusedEntry
	}
	if old := m.files[full]; old != nil && (old.kind != tar.TypeDir || made.kind != tar.TypeDir) {
		m.remove(func(name string) bool { return name == full || strings.HasPrefix(name, full+"/") })
	}
	m.files[full], m.layers[full] = made, m.layer
	return ""
}

func (m *model) target(one entry) (*modelFile, string) {
	name, out := climbs(one.Linkname)
	if out || name == "" || len(one.Linkname) > 4096 {
		return nil, refusedEntry
	}
	directory, base := path.Split(name)
	at, refused, there := m.resolve(directory, false)
	target := m.files[strings.TrimPrefix(at+"/"+base, "/")]
	if refused != "" || !there || target == nil || target.kind == tar.TypeDir {
		return nil, refusedEntry
	}
	target.Uid, target.Gid = one.Uid, one.Gid
	if target.kind != tar.TypeSymlink {
		target.Mode = one.Mode
	}
	if one.PAXRecords != nil {
		target.PAXRecords = one.PAXRecords
	}
	return target, ""
}

func (m *model) whiteout(directory, hidden string) string {
	at, _, there := m.resolve(directory, false)
	if !there {
		return ""
	}
	below := strings.TrimPrefix(at+"/", "/")
	if hidden == ".wh..opq" {
		m.hide(func(name string) bool { return name != "" && strings.HasPrefix(name, below) })
		return ""
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return refusedEntry
	}
	m.hide(func(name string) bool { return name == below+hidden || strings.HasPrefix(name, below+hidden+"/") })
	return ""
}

// hide removes what lower layers have, except directories that something of this layer is in.
func (m *model) hide(which func(string) bool) {
	kept := map[string]bool{}
	for name := range m.files {
		if which(name) && m.layers[name] == m.layer {
			for at := name; at != "." && !kept[at]; at = path.Dir(at) {
				kept[at] = true
			}
		}
	}
	m.remove(func(name string) bool { return which(name) && !kept[name] })
}

func (m *model) remove(which func(string) bool) {
	for name := range m.files {
		if name != "" && which(name) {
			delete(m.files, name)
		}
	}
}

// listed is in the form of the function of that name: the first name of a file says what it is, the others say which.
func (m *model) listed() map[string]string {
	names := [][]string{}
	for name := range m.files {
		if name != "" {
			names = append(names, strings.Split(name, "/"))
		}
	}
	slices.SortFunc(names, slices.Compare)
	lines := map[string]string{}
	first := map[*modelFile]string{}
	for _, parts := range names {
		name := strings.Join(parts, "/")
		file := m.files[name]
		if file.kind == tar.TypeChar && file.Devminor == 0 {
			continue
		}
		if other, twice := first[file]; twice {
			lines[name] = "= " + other
			continue
		}
		first[file] = name
		line := fmt.Sprintf("%c %o %d:%d", file.kind, file.Mode, file.Uid, file.Gid)
		switch file.kind {
		case tar.TypeSymlink:
			line += " -> " + file.Linkname
		case tar.TypeChar, tar.TypeBlock:
			line += fmt.Sprintf(" %d,%d", file.Devmajor, file.Devminor)
		case tar.TypeReg:
			line += " " + file.content
		}
		if value, there := file.PAXRecords["SCHILY.xattr.user.x"]; there {
			line += fmt.Sprintf(" user.x=%q", value)
		}
		lines[name] = line
	}
	return lines
}
