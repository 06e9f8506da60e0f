// This file owns applying the changes of a patch one after the other, each to the tree as those before have made it, in the order
// and with the exceptions that git has.
package patch

import (
	"context"
	"errors"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// state is what has become of a name so far.
type state int

const (
	// untouched: as it is in the tree.
	untouched state = iota
	// left: it was removed, or renamed away.
	left
	// made: it has a new content.
	made
)

// name is what is known of a path that the patch changes.
type name struct {
	state   state
	staged  Staged
	entry   Entry
	content []byte
	outcome Outcome
}

// application is one patch on its way.
type application struct {
	tree  Tree
	names map[string]*name
	// directories are the types of paths above others.
	directories map[string]Type
	// leaving are names that some change of the patch removes or renames: others may be made in their place before that.
	leaving map[string]bool
	// used is how many changes still begin from a name: its new content is kept until then.
	used map[string]int
}

func (a *application) apply(ctx context.Context, changes []*change) (*Plan, error) {
	for _, c := range changes {
		if err := a.settleNames(c); err != nil {
			return nil, err
		}
		if c.oldName != "" {
			a.used[c.oldName]++
			if c.isDelete || c.isRename {
				a.leaving[c.oldName] = true
			}
		}
	}
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := a.change(c); err != nil {
			return nil, err
		}
	}
	return a.plan()
}

// settleNames decides what the names of a change that is not git's mean: without their first part, as git takes them, unless
// there is only a file by the whole name.
func (a *application) settleNames(c *change) error {
	settled := func(given string) (string, error) {
		plain := c.plain(given)
		if given == "" || plain == given || strings.HasPrefix(given, "/") {
			return plain, nil
		}
		if checkName(given) != nil {
			return plain, nil
		}
		short, err := a.exists(plain)
		if err != nil || short {
			return plain, err
		}
		whole, err := a.exists(given)
		if err != nil || !whole {
			return plain, err
		}
		return given, nil
	}
	if c.git {
		return nil
	}
	var err error
	if c.oldName, err = settled(c.oldName); err != nil {
		return err
	}
	if c.newName, err = settled(c.newName); err != nil {
		return err
	}
	return nil
}

// exists asks for a name that may not be meant: what forbids it is no error.
func (a *application) exists(path string) (bool, error) {
	entry, err := a.look(path)
	var refused *Problem
	if errors.As(err, &refused) {
		return false, nil
	}
	return entry.Type != None, err
}

// look tells what a name is in the tree as it was. What is below something that leaves is not there. Errors: *Problem for a way
// through something else.
func (a *application) look(path string) (Entry, error) {
	for at := 0; ; {
		next := strings.IndexByte(path[at:], '/')
		if next < 0 {
			return a.tree.Look(path)
		}
		above := path[:at+next]
		at += next + 1
		kind, known := a.directories[above]
		if !known {
			entry, err := a.tree.Look(above)
			if err != nil {
				return Entry{}, err
			}
			kind = entry.Type
			a.directories[above] = kind
		}
		switch {
		case kind == Directory:
		case kind == None || a.leaving[above]:
			return Entry{}, nil
		case kind == Link:
			return Entry{}, problem(Outside, path, "%s leads through the symbolic link %s", quoted(path), quoted(above))
		default:
			return Entry{}, problem(Conflict, path, "%s is no directory, and %s would be in it", quoted(above), quoted(path))
		}
	}
}

// change applies one change.
func (a *application) change(c *change) error {
	old, content, err := a.before(c)
	if err != nil {
		return err
	}
	if err := a.target(c, old); err != nil {
		return err
	}
	file, err := c.file()
	if err != nil {
		return err
	}
	path := c.name()
	after := content
	switch {
	case file.IsBinary:
		after, err = patchBinary(path, content, c.oldName == "", file)
	case len(file.TextFragments) > 0:
		after, err = patchText(path, content, file.TextFragments)
	}
	if err != nil {
		return err
	}
	if len(after) > MostContent {
		return tooLarge(path)
	}
	if c.newName == "" {
		if len(after) > 0 {
			return problem(Rejected, path, "the patch removes %s, but not all that is in it", quoted(path))
		}
		a.leave(c, Outcome{Path: path, Status: Deleted, Type: old.Type})
		return nil
	}
	return a.make(c, old, after, file)
}

// before returns what a change begins from. Renames and copies begin from the tree as it was, whatever else the patch does.
func (a *application) before(c *change) (Entry, []byte, error) {
	if c.oldName == "" {
		return Entry{}, nil, nil
	}
	a.used[c.oldName]--
	n := a.names[c.oldName]
	if n != nil && !c.isRename && !c.isCopy {
		switch n.state {
		case left:
			return Entry{}, nil, problem(Rejected, c.oldName, "the patch has removed or renamed %s before it changes it", quoted(c.oldName))
		case made:
			return n.entry, n.content, a.sameType(c, n.entry)
		}
	}
	entry, err := a.look(c.oldName)
	if err != nil {
		return Entry{}, nil, err
	}
	if entry.Type == None && c.maybeNew {
		c.oldName, c.isNew = "", true
		return Entry{}, nil, nil
	}
	if err := a.sameType(c, entry); err != nil {
		return Entry{}, nil, err
	}
	if entry.Size > MostContent {
		return Entry{}, nil, tooLarge(c.oldName)
	}
	content, err := a.tree.Read(c.oldName)
	return entry, content, err
}

// sameType refuses to change what is not what the patch takes it for.
func (a *application) sameType(c *change, entry Entry) error {
	path := quoted(c.oldName)
	switch entry.Type {
	case None:
		return problem(Rejected, c.oldName, "there is no %s for the patch to change", path)
	case Directory:
		return problem(Rejected, c.oldName, "%s is a directory, and the patch changes a file", path)
	case Other:
		return problem(Rejected, c.oldName, "%s is a fifo, a socket or a device, and the patch changes a file", path)
	}
	for _, mode := range []uint32{c.oldMode, c.newMode} {
		if mode == 0 || c.isNew {
			continue
		}
		if (mode&typeMask == link) != (entry.Type == Link) {
			return problem(Rejected, c.oldName, "%s is %s, and the patch is of %s", path, what(entry.Type), what(typeOf(mode)))
		}
	}
	return nil
}

func what(kind Type) string {
	if kind == Link {
		return "a symbolic link"
	}
	return "a file"
}

func typeOf(mode uint32) Type {
	if mode&typeMask == link {
		return Link
	}
	return File
}

// target refuses to make what is there already, unless the patch takes it away.
func (a *application) target(c *change, old Entry) error {
	if c.newName == "" || c.oldName == c.newName {
		return nil
	}
	n := a.names[c.newName]
	if n != nil && n.state == made {
		return problem(Invalid, c.newName, "the patch makes %s twice", quoted(c.newName))
	}
	entry, err := a.look(c.newName)
	if err != nil {
		return err
	}
	// What is in a directory may leave; that is seen at the end.
	if entry.Type == None || entry.Type == Directory || a.leaving[c.newName] {
		return nil
	}
	return problem(Rejected, c.newName, "%s is there already, and the patch makes it new", quoted(c.newName))
}

// make keeps a new content aside.
func (a *application) make(c *change, old Entry, content []byte, file *gitdiff.File) error {
	kind, permissions := old.Type, old.Permissions
	if c.oldName == "" {
		kind, permissions = typeOf(c.newMode), 0o644
	}
	if kind == File && c.newMode != 0 && (c.oldName == "" || c.oldMode&0o111 != c.newMode&0o111) {
		permissions &^= 0o111
		if c.newMode&0o111 != 0 {
			permissions |= (permissions & 0o444) >> 2
		}
	}
	if kind == Link && (len(content) == 0 || len(content) > mostPath || strings.IndexByte(string(content), 0) >= 0) {
		return problem(Invalid, c.newName, "%s would be a symbolic link to no possible name", quoted(c.newName))
	}
	staged, err := a.tree.Stage(c.newName, kind, permissions, content)
	if err != nil {
		return err
	}
	outcome := Outcome{Path: c.newName, Status: Modified, Type: kind, Text: len(file.TextFragments) > 0}
	before := a.names[c.newName]
	switch {
	case c.isRename:
		outcome.Status, outcome.OldPath = Renamed, c.oldName
	case c.isCopy:
		outcome.Status, outcome.OldPath = Copied, c.oldName
	case before != nil && before.state == made:
		outcome.Status, outcome.OldPath, outcome.Text = before.outcome.Status, before.outcome.OldPath, outcome.Text || before.outcome.Text
	case before != nil && before.state == left && before.outcome.Status == Deleted:
		if before.outcome.Type != kind {
			outcome.Status = TypeChanged
		}
	case c.oldName == "":
		outcome.Status = Added
	}
	if before != nil && before.staged != nil {
		before.staged.Drop()
	}
	n := &name{state: made, staged: staged, entry: Entry{kind, permissions, int64(len(content))}, outcome: outcome}
	if a.used[c.newName] > 0 {
		n.content = content
	}
	if c.isRename && c.oldName != c.newName {
		a.leave(c, Outcome{})
	}
	a.names[c.newName] = n
	return nil
}

// leave takes a name away, unless another change has made it anew.
func (a *application) leave(c *change, outcome Outcome) {
	n := a.names[c.oldName]
	if n != nil && n.state == made {
		if c.isRename {
			return
		}
		n.staged.Drop()
	}
	a.names[c.oldName] = &name{state: left, outcome: outcome}
}

// drop gives up what was kept aside.
func (a *application) drop() {
	for _, n := range a.names {
		if n.staged != nil {
			n.staged.Drop()
		}
	}
}
