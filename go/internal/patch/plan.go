// This file owns what a patch makes of a tree as a whole: which names go, which are made, and that all of that is possible.
package patch

import (
	"context"
	"slices"
	"strings"
)

// Type is what has a name in a tree.
type Type int

// The types. None is nothing at all; Other is what a patch cannot change.
const (
	None Type = iota
	File
	Link
	Directory
	Other
)

// Entry is what a tree tells of a name.
type Entry struct {
	Type Type
	// Permissions of a file.
	Permissions uint32
	Size        int64
}

// Tree is what a patch is applied to. Names are relative, and all but their last parts are directories that were looked at.
// Nothing is followed. Errors that are no *Problem end everything.
type Tree interface {
	Look(path string) (Entry, error)
	// Read gives the content of a file, or what a link holds.
	Read(path string) ([]byte, error)
	// Only says whether a directory holds nothing but directories and these names.
	Only(path string, names map[string]bool) (bool, error)
	// Stage keeps a new file or link aside, until its Drop is called.
	Stage(path string, kind Type, permissions uint32, content []byte) (Staged, error)
}

// Staged is what a tree keeps aside.
type Staged interface{ Drop() }

// Made is a file or a link that is to have a name.
type Made struct {
	Path   string
	Staged Staged
}

// Status is what becomes of a name.
type Status int

// The statuses.
const (
	Added Status = iota + 1
	Modified
	Deleted
	Renamed
	Copied
	TypeChanged
)

// Outcome tells what becomes of a name.
type Outcome struct {
	Path   string
	Status Status
	Type   Type
	// OldPath is what a renamed or copied file came from.
	OldPath string
	// Text: its lines were changed.
	Text bool
}

// Plan is what a patch makes of a tree. Nothing of it was done yet.
type Plan struct {
	// Removed are the names that go, Made those that come or change, and Outcomes all of them in order.
	Removed  []string
	Made     []Made
	Outcomes []Outcome
}

// Drop gives up what was kept aside and has no name yet.
func (p *Plan) Drop() {
	for _, made := range p.Made {
		made.Staged.Drop()
	}
}

// Apply works out what a patch makes of a tree. Errors: *Problem, those of the tree, that of ctx.
func Apply(ctx context.Context, text []byte, tree Tree) (*Plan, error) {
	changes, err := parse(text)
	if err != nil {
		return nil, err
	}
	a := &application{
		tree: tree, names: map[string]*name{}, directories: map[string]Type{"": Directory}, leaving: map[string]bool{}, used: map[string]int{},
	}
	plan, err := a.apply(ctx, changes)
	if err != nil {
		a.drop()
		return nil, err
	}
	return plan, nil
}

// plan puts together what all changes came to, and looks whether it is possible.
func (a *application) plan() (*Plan, error) {
	plan := &Plan{}
	gone := map[string]bool{}
	for path, n := range a.names {
		switch {
		case n.staged != nil:
			plan.Made = append(plan.Made, Made{path, n.staged})
			plan.Outcomes = append(plan.Outcomes, n.outcome)
		case n.state == left:
			gone[path] = true
			plan.Removed = append(plan.Removed, path)
			if n.outcome.Status == Deleted {
				plan.Outcomes = append(plan.Outcomes, n.outcome)
			}
		}
	}
	slices.Sort(plan.Removed)
	slices.SortFunc(plan.Made, func(a, b Made) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(plan.Outcomes, func(a, b Outcome) int { return strings.Compare(a.Path, b.Path) })
	for _, made := range plan.Made {
		if err := a.possible(made.Path, gone); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// possible refuses a name that cannot be made because of what else there is, or will be.
func (a *application) possible(path string, gone map[string]bool) error {
	for at := strings.IndexByte(path, '/'); at >= 0; {
		above := path[:at]
		if n := a.names[above]; n != nil && n.staged != nil {
			return problem(Conflict, path, "the patch makes %s a file, and also %s", quoted(above), quoted(path))
		}
		next := strings.IndexByte(path[at+1:], '/')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	entry, err := a.look(path)
	if err != nil || entry.Type != Directory {
		return err
	}
	only, err := a.tree.Only(path, gone)
	if err != nil {
		return err
	}
	if !only {
		return problem(Conflict, path, "%s is a directory that is not empty, and the patch makes it a file", quoted(path))
	}
	return nil
}
