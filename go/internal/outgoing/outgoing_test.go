package outgoing

import (
	"context"
	"errors"
	"testing"
	"time"
)

func count(most int) Make[int] {
	return func(_ context.Context, emit func(int) error) error {
		for i := range most {
			if err := emit(i); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestPiecesAreGivenInOrderAndAgain(t *testing.T) {
	var table Table[int]
	for range 2 {
		if err := table.Begin("a", count(3)); err != nil {
			t.Fatal(err)
		}
	}
	for number := range uint64(3) {
		for range 2 {
			piece, end, err := table.Read(t.Context(), "a", number)
			if err != nil || end || piece != int(number) {
				t.Fatalf("%d: %d %v %v", number, piece, end, err)
			}
		}
	}
	if _, _, err := table.Read(t.Context(), "a", 0); !errors.Is(err, ErrInvalid) {
		t.Fatalf("one that was acknowledged: %v", err)
	}
	for range 2 {
		if _, end, err := table.Read(t.Context(), "a", 3); !end || err != nil {
			t.Fatalf("the end: %v %v", end, err)
		}
	}
	table.Drop("a")
	if _, _, err := table.Read(t.Context(), "a", 3); !errors.Is(err, ErrUnknown) {
		t.Fatalf("dropped: %v", err)
	}
}

// A call whose caller goes takes no piece with it.
func TestAReaderThatGoesLosesNothing(t *testing.T) {
	var table Table[int]
	begin := make(chan struct{})
	err := table.Begin("a", func(ctx context.Context, emit func(int) error) error {
		<-begin
		return count(2)(ctx, emit)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := table.Read(ctx, "a", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	close(begin)
	if piece, _, err := table.Read(t.Context(), "a", 0); piece != 0 || err != nil {
		t.Fatal(piece, err)
	}
	if piece, _, err := table.Read(t.Context(), "a", 1); piece != 1 || err != nil {
		t.Fatal(piece, err)
	}
}

func TestWhatIsDroppedEnds(t *testing.T) {
	var table Table[int]
	ended := make(chan error, 1)
	err := table.Begin("a", func(ctx context.Context, emit func(int) error) error {
		for {
			if err := emit(1); err != nil {
				ended <- err
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Read(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	table.Close(t.Context())
	if err := <-ended; !errors.Is(err, ErrDropped) {
		t.Fatal(err)
	}
	if err := table.Begin("b", count(1)); !errors.Is(err, ErrBusy) {
		t.Fatalf("after the end: %v", err)
	}
}

func TestAFailureIsToldAndThereAreNotTooMany(t *testing.T) {
	var table Table[int]
	failure := errors.New("x")
	for i := range mostActive {
		if err := table.Begin(string(rune('a'+i)), func(context.Context, func(int) error) error { return failure }); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Begin("more", count(1)); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	if _, end, err := table.Read(t.Context(), "a", 0); end || !errors.Is(err, failure) {
		t.Fatal(end, err)
	}
	if err := table.Begin("../x", count(1)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}
