package transfer

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// commitOf stages an archive and commits it, with between called when everything was looked at and nothing was renamed.
func commitOf(t *testing.T, g *guest, destination string, archive []byte, between func()) error {
	t.Helper()
	parts, err := destinationParts(destination)
	if err != nil {
		t.Fatal(err)
	}
	place, err := openDestination(g.rootFD, parts)
	if err != nil {
		t.Fatal(err)
	}
	defer place.close()
	staging, err := makeStaging(g.diskFD, "by-hand")
	if err != nil {
		t.Fatal(err)
	}
	defer g.clear("by-hand")
	pieces := make(chan []byte, 1)
	pieces <- archive
	close(pieces)
	unpack := &unpacker{source: &source{pieces: pieces}, maxBytes: plenty, maxEntries: plenty, stage: newStage(staging, &g.memory)}
	defer unpack.stage.close()
	if err := unpack.run(); err != nil {
		t.Fatal(err)
	}
	between()
	return g.replace(&transfer{parts: parts, unpack: unpack}, place, "by-hand")
}

func TestWhatWasDoneInPartIsSaidToBe(t *testing.T) {
	for _, first := range []string{"first", "z/first"} {
		g := newGuest(t)
		g.write("first", "old")
		g.write("z/f", "old")
		// Files come before directories.
		err := commitOf(t, g, "/workspace", archiveOf(t, file(first, "new"), file("z/f", "new")), func() {
			os.Remove(g.at("z/f"))
			if err := os.Mkdir(g.at("z/f"), 0o700); err != nil {
				t.Fatal(err)
			}
		})
		wantRefusal(t, err, Conflict, `"/workspace/z/f"`)
		var refused *Refusal
		_ = errors.As(err, &refused)
		text, _ := os.ReadFile(g.at(first))
		if refused.Partly != (string(text) == "new") || first == "first" && !refused.Partly {
			t.Errorf("partly %v, and the file is %q", refused.Partly, text)
		}
		g.nothingLeft()
	}
}

func TestParentsMadeForNothingGo(t *testing.T) {
	g := newGuest(t)
	before := tree(t, g.at(""))
	err := commitOf(t, g, "/workspace/new/place", archiveOf(t, file("f", "new")), func() {
		// Somebody else's process makes something of the same name before the last parent.
		if err := os.Mkdir(g.at("new"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/", g.at("new/place")); err != nil {
			t.Fatal(err)
		}
	})
	wantRefusal(t, err, Outside)
	if err := os.RemoveAll(g.at("new")); err != nil {
		t.Fatal(err)
	}
	wantTree(t, tree(t, g.at("")), before)

	place, err := openDestination(g.rootFD, []string{workspace, "x", "y", "z"})
	if err != nil {
		t.Fatal(err)
	}
	defer place.close()
	if err := place.make(); err != nil {
		t.Fatal(err)
	}
	place.unmake()
	wantTree(t, tree(t, g.at("")), before)
}

func TestKindsOfPartly(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind Kind
	}{
		{failed("put", "x", unix.ENOSPC), Full},
		{failed("put", "x", unix.EBUSY), Conflict},
		{failed("put", "x", unix.EIO), Failed},
	} {
		var refused *Refusal
		if err := unforeseen(c.err, true); !errors.As(err, &refused) || refused.Kind != c.kind || !refused.Partly {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

func TestFinishAnswersWhatHappenedAfterAnAbortThatCameTooLate(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	release, err := g.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	archive := archiveOf(t, file("a", "a"))
	if err := g.Begin("id", "/workspace", plenty, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(ctx, "id", 0, archive); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, _ = g.Finish(gone, "id", uint64(len(archive)))
	// As it is when the renames have begun.
	g.mu.Lock()
	g.transfers["id"].committing = true
	g.mu.Unlock()
	if err := g.Abort(gone, "id"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the abort did not wait: %v", err)
	}
	release()
	if err := g.Abort(ctx, "id"); err != nil {
		t.Error(err)
	}
	if result, err := g.Finish(ctx, "id", uint64(len(archive))); err != nil || result != (Result{1, 1}) {
		t.Errorf("%v %v", result, err)
	}
}
