package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCallsMadeAgainAnswerAlike(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	archive := archiveOf(t, file("a", strings.Repeat("x", 3000)))
	for range 3 {
		if err := g.Begin("id", "/workspace", plenty, 10); err != nil {
			t.Fatal(err)
		}
	}
	for offset := 0; offset < len(archive); offset += 500 {
		part := archive[offset:min(offset+500, len(archive))]
		for range 2 {
			accepted, err := g.Write(ctx, "id", uint64(offset), part)
			if err != nil || accepted != uint64(offset+len(part)) {
				t.Fatalf("%d, %v", accepted, err)
			}
		}
		// Half of it again, and more.
		if back := max(0, offset-250); back > 0 {
			if accepted, err := g.Write(ctx, "id", uint64(back), archive[back:offset+len(part)]); err != nil || accepted != uint64(offset+len(part)) {
				t.Fatalf("%d, %v", accepted, err)
			}
		}
	}
	if _, err := g.Write(ctx, "id", uint64(len(archive)+1), []byte("x")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a gap: %v", err)
	}
	if _, err := g.Finish(ctx, "id", uint64(len(archive)-1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("another size: %v", err)
	}
	for range 3 {
		if result, err := g.Finish(ctx, "id", uint64(len(archive))); err != nil || result != (Result{1, 3000}) {
			t.Fatalf("%v %v", result, err)
		}
	}
	if err := g.Abort(ctx, "id"); err != nil {
		t.Error(err)
	}
	if _, err := g.Write(ctx, "id", uint64(len(archive)), []byte("more")); !errors.Is(err, ErrInvalid) {
		t.Errorf("more behind the end: %v", err)
	}
	for _, id := range []string{"none", "", "../x"} {
		if _, err := g.Write(ctx, id, 0, nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
		if err := g.Abort(ctx, id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if err := g.Begin(id, "/workspace", 1, 1); id != "none" && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
	// What was refused stays refused.
	if err := g.Begin("bad", "/workspace", plenty, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(ctx, "bad", 0, bytes.Repeat([]byte("x"), 4096)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := g.Finish(ctx, "bad", 4096)
		wantRefusal(t, err, Archive)
	}
}

func TestAnAbortLeavesNothing(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	g.write("a", "old")
	before := tree(t, g.at(""))
	archive := archiveOf(t, file("a", "new"), file("b", strings.Repeat("x", 10_000)))
	for cut := 0; cut <= len(archive); cut += 1024 {
		id := fmt.Sprint("id", cut)
		if err := g.Begin(id, "/workspace/x", plenty, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Write(ctx, id, 0, archive[:cut]); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := g.Abort(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Write(ctx, id, uint64(cut), []byte("x")); !errors.Is(err, ErrAborted) {
			t.Fatalf("after the abort: %v", err)
		}
		if _, err := g.Finish(ctx, id, uint64(cut)); !errors.Is(err, ErrAborted) {
			t.Fatalf("after the abort: %v", err)
		}
		wantTree(t, tree(t, g.at("")), before)
		g.nothingLeft()
	}
}

func TestSilenceEndsATransfer(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	if err := g.Begin("id", "/workspace", plenty, 10); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	one := g.transfers["id"]
	g.mu.Unlock()
	// While a call is there it is not silent.
	_, done, err := g.use("id")
	if err != nil {
		t.Fatal(err)
	}
	g.silent(one)
	select {
	case <-one.over:
		t.Fatal("dropped while it was used")
	case <-time.After(50 * time.Millisecond):
	}
	done()
	g.silent(one)
	select {
	case <-one.over:
	case <-ctx.Done():
		t.Fatal("not dropped")
	}
	g.nothingLeft()
	if _, err := g.Write(ctx, "id", 0, nil); !errors.Is(err, ErrAborted) {
		t.Errorf("%v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	g := newGuest(t)
	ctx := deadline(t)
	var ids []string
	for i := range maxActive {
		id := fmt.Sprint("w", i)
		if err := g.Begin(id, "/workspace", plenty, 10); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := g.Begin("more", "/workspace", plenty, 10); !errors.Is(err, ErrBusy) {
		t.Fatalf("one more: %v", err)
	}
	for _, id := range ids {
		if err := g.Abort(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for worker := range maxActive {
		group.Go(func() {
			for round := range 10 {
				id := fmt.Sprintf("r%d-%d", worker, round)
				archive := archiveOf(t, file("shared", strings.Repeat(fmt.Sprint(worker), 2000)), file(fmt.Sprintf("own/%d", worker), id))
				if err := g.Begin(id, "/workspace", plenty, 10); err != nil {
					t.Error(err)
					return
				}
				if _, err := g.Write(ctx, id, 0, archive); err != nil {
					t.Error(err)
				}
				if _, err := g.Finish(ctx, id, uint64(len(archive))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	shared, err := os.ReadFile(g.at("shared"))
	if err != nil || strings.Trim(string(shared), string(shared[:1])) != "" || len(shared) != 2000 {
		t.Errorf("torn: %.20q %v", shared, err)
	}
	for worker := range maxActive {
		if text, _ := os.ReadFile(g.at(fmt.Sprintf("own/%d", worker))); string(text) != fmt.Sprintf("r%d-9", worker) {
			t.Errorf("worker %d: %q", worker, text)
		}
	}
	g.nothingLeft()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.active != 0 || len(g.transfers) > maxEnded || len(g.ended) > maxEnded {
		t.Errorf("%d active, %d remembered", g.active, len(g.transfers))
	}
}

// A writer that is behind waits, and may give up waiting without harm.
func TestAWriterWaitsAndMayGiveUp(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	// The archive is whole, and nothing may be put in its place.
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
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := g.Finish(short, "id", uint64(len(archive))); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("finished while the workspace was held: %v", err)
	}
	if _, err := os.Stat(g.at("a")); err == nil {
		t.Fatal("put in its place while the workspace was held")
	}
	release()
	if _, err := g.Finish(ctx, "id", uint64(len(archive))); err != nil {
		t.Fatal(err)
	}
}

func TestAFinishThatNobodyWaitsForIsCarriedOut(t *testing.T) {
	g, ctx := newGuest(t), deadline(t)
	archive := archiveOf(t, file("a", "a"))
	if err := g.Begin("id", "/workspace", plenty, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(ctx, "id", 0, archive); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = g.Finish(gone, "id", uint64(len(archive)))
	if _, err := g.Finish(ctx, "id", uint64(len(archive))); err != nil {
		t.Fatal(err)
	}
}

func TestWhatACrashLeftIsRemoved(t *testing.T) {
	root := t.TempDir()
	for _, left := range []string{stagings, stagings + "-0123", shown + "0123", ".pyro-transfers"} {
		if err := os.MkdirAll(filepath.Join(root, left, "x", "y"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, workspace), 0o755); err != nil {
		t.Fatal(err)
	}
	g := openGuest(t, root)
	g.mustPush(archiveOf(t, file("a", "a")))
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left: %v", entries)
		}
	}
}

// The workspace's own root does what it can to the stagings: a transfer may fail, but it ends, and nothing outside of the
// root is written.
func TestMeddlingWithTheStaging(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := tree(t, outside)
	for name, meddle := range map[string]func(stagings string){
		"gone":     func(stagings string) { os.RemoveAll(stagings) },
		"a link":   func(stagings string) { os.RemoveAll(stagings); _ = os.Symlink(outside, stagings) },
		"a file":   func(stagings string) { os.RemoveAll(stagings); _ = os.WriteFile(stagings, nil, 0o644) },
		"a fifo":   func(stagings string) { os.RemoveAll(stagings); _ = unix.Mkfifo(stagings, 0o644) },
		"replaced": func(stagings string) { _ = os.Rename(stagings, stagings+"2"); _ = os.Mkdir(stagings, 0o755) },
		"inside": func(stagings string) {
			tops, _ := filepath.Glob(stagings + "/*")
			for _, top := range tops {
				for _, name := range []string{"d", "f", "late"} {
					os.RemoveAll(filepath.Join(top, name))
				}
				_ = os.Symlink(outside, filepath.Join(top, "d"))
				_ = os.Symlink(filepath.Join(outside, "f"), filepath.Join(top, "f"))
				_ = unix.Mkfifo(filepath.Join(top, "late"), 0o644)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, ctx := newGuest(t), deadline(t)
			g.write("d/old", "old")
			place := filepath.Join(g.root, stagings)
			archive := archiveOf(t, file("d/f", "new"), directoryEntry("d", 0o700), file("f", "new"), file("late", "new"), file("d/f", "newer"))
			half := len(archive) / 2 &^ 511
			stop := make(chan struct{})
			var group sync.WaitGroup
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						meddle(place)
					}
				}
			})
			for round := range 20 {
				id, begin := fmt.Sprint("id", round), time.Now()
				if err := g.Begin(id, "/workspace", plenty, 100); err != nil {
					t.Fatal(err)
				}
				_, _ = g.Write(ctx, id, 0, archive[:half])
				time.Sleep(time.Millisecond)
				_, _ = g.Write(ctx, id, uint64(half), archive[half:])
				_, err := g.Finish(ctx, id, uint64(len(archive)))
				if time.Since(begin) > 5*time.Second {
					t.Fatalf("it hangs: %v", err)
				}
			}
			close(stop)
			group.Wait()
			wantTree(t, tree(t, outside), before)
		})
	}
}
