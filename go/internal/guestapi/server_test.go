package guestapi

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	guestv1 "pyro.dev/pyro/go/gen/pyro/guest/v1"
)

// A disk that never answers holds MountRoot, and nobody longer than he is willing to wait.
func TestHelloAnswersWhateverHangs(t *testing.T) {
	server := New("test", nil, nil)
	release, err := server.hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := server.MountRoot(ctx, connect.NewRequest(&guestv1.MountRootRequest{})); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Fatalf("MountRoot: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := server.Hello(t.Context(), connect.NewRequest(&guestv1.HelloRequest{}))
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Hello waits for what hangs")
	}
	release()
	if _, err := server.MountRoot(t.Context(), connect.NewRequest(&guestv1.MountRootRequest{})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("MountRoot before Identify: %v", err)
	}
}
