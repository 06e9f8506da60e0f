package output

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

func testLimits() Limits {
	return Limits{PerLog: 64 << 10, Total: 256 << 10, Behind: 16 << 10, Grace: 50 * time.Millisecond}
}

func newLog(t *testing.T, store *Store) *Log {
	t.Helper()
	log, err := store.NewLog()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func attach(t *testing.T, log *Log, cursor uint64) *Reader {
	t.Helper()
	reader, err := log.Attach(cursor)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

// readAll reads until the end; gap is how many bytes were missing.
func readAll(t *testing.T, reader *Reader, cursor uint64) (streams map[Stream][]byte, gap uint64) {
	t.Helper()
	streams = map[Stream][]byte{}
	buffer := make([]byte, 5000)
	for {
		chunk, err := reader.Next(t.Context(), buffer)
		if errors.Is(err, io.EOF) {
			return streams, gap
		}
		if err != nil {
			t.Fatal(err)
		}
		gap += chunk.Cursor - cursor
		cursor = chunk.Cursor + uint64(len(chunk.Data))
		streams[chunk.Stream] = append(streams[chunk.Stream], chunk.Data...)
		reader.Took(chunk)
	}
}

func TestAttachedReaderLosesNothing(t *testing.T) {
	log := newLog(t, NewStore(testLimits()))
	reader := attach(t, log, 0)
	random := rand.New(rand.NewPCG(1, 1))
	want := map[Stream][]byte{}
	var pieces [][]byte
	for i := range 2000 {
		piece := bytes.Repeat([]byte{byte(i)}, 1+random.IntN(1000))
		pieces = append(pieces, piece)
		stream := Stream(1 + i%2)
		want[stream] = append(want[stream], piece...)
	}
	go func() {
		for i, piece := range pieces {
			if err := log.Append(Stream(1+i%2), piece); err != nil {
				panic(err)
			}
		}
		log.Finish()
	}()
	got, gap := readAll(t, reader, 0)
	if gap != 0 || !bytes.Equal(got[Stdout], want[Stdout]) || !bytes.Equal(got[Stderr], want[Stderr]) {
		t.Fatalf("gap %d, stdout %d of %d, stderr %d of %d", gap,
			len(got[Stdout]), len(want[Stdout]), len(got[Stderr]), len(want[Stderr]))
	}
}

func TestUnreadOutputDropsTheOldest(t *testing.T) {
	limits := testLimits()
	log := newLog(t, NewStore(limits))
	time.Sleep(2 * limits.Grace)
	total := 0
	for i := range 300 {
		if err := log.Append(Stdout, bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
			t.Fatal(err)
		}
		total += 1000
	}
	log.Finish()
	got, gap := readAll(t, attach(t, log, 0), 0)
	if gap == 0 || int(gap)+len(got[Stdout]) != total || uint64(len(got[Stdout])) > limits.PerLog {
		t.Fatalf("gap %d and %d bytes of %d", gap, len(got[Stdout]), total)
	}
	if last := got[Stdout][len(got[Stdout])-1]; last != byte(299%256) {
		t.Fatalf("the newest byte is %d", last)
	}
}

// appendBlocks tells whether an append of a full log waits.
func appendBlocks(log *Log, within time.Duration) (blocked bool, done chan error) {
	done = make(chan error, 1)
	go func() { done <- log.Append(Stdout, make([]byte, 1000)) }()
	select {
	case err := <-done:
		done <- err
		return false, done
	case <-time.After(within):
		return true, done
	}
}

func fill(t *testing.T, log *Log, bytes int) {
	t.Helper()
	for range bytes / 1024 {
		if err := log.Append(Stdout, make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCutOffReaderIsKeptForTheGrace(t *testing.T) {
	limits := testLimits()
	limits.Grace = 300 * time.Millisecond
	log := newLog(t, NewStore(limits))
	reader := attach(t, log, 0)
	fill(t, log, int(limits.PerLog))
	reader.Detach(true)
	blocked, done := appendBlocks(log, limits.Grace/3)
	if !blocked {
		t.Fatal("the writer did not wait for the reader to come back")
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the writer waits after the grace time")
	}
}

func TestHurryEndsTheWait(t *testing.T) {
	limits := testLimits()
	log := newLog(t, NewStore(limits))
	defer attach(t, log, 0).Detach(false)
	fill(t, log, int(limits.PerLog))
	blocked, done := appendBlocks(log, 20*time.Millisecond)
	if !blocked {
		t.Fatal("the writer did not wait for the reader")
	}
	log.Hurry()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFinishedLogsMakeWay(t *testing.T) {
	limits := testLimits()
	store := NewStore(limits)
	old := newLog(t, store)
	fill(t, old, int(limits.PerLog))
	old.Finish()
	time.Sleep(2 * limits.Grace)
	for range 6 {
		fill(t, newLog(t, store), int(limits.PerLog)-8192)
	}
	time.Sleep(2 * limits.Grace)
	fill(t, newLog(t, store), int(limits.PerLog))
	if store.used > limits.Total {
		t.Fatalf("%d bytes are kept of at most %d", store.used, limits.Total)
	}
	if old.size() != 0 {
		t.Fatalf("the finished log still has %d bytes", old.size())
	}
}

func TestCursors(t *testing.T) {
	log := newLog(t, NewStore(testLimits()))
	if err := log.Append(Stdout, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Attach(6); !errors.Is(err, ErrBeyondEnd) {
		t.Fatalf("beyond the end: %v", err)
	}
	reader := attach(t, log, 5)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := reader.Next(ctx, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("at the end: %v", err)
	}
	log.Close()
	if _, err := reader.Next(t.Context(), make([]byte, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
	if err := log.Append(Stdout, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("append to a closed log: %v", err)
	}
}

func TestManySegmentsAreBounded(t *testing.T) {
	limits := testLimits()
	limits.PerLog, limits.Total = 8<<20, 8<<20
	log := newLog(t, NewStore(limits))
	time.Sleep(2 * limits.Grace)
	for i := range 3 * maxSegments {
		if err := log.Append(Stream(1+i%2), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if len(log.segments) > maxSegments {
		t.Fatalf("%d segments", len(log.segments))
	}
}
