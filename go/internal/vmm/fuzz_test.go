package vmm

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// What the VMM does after it has said its piece.
const (
	thenHangsUp = iota
	thenIsSilent
	thenRepeatsItself
	thenWays
)

// FuzzPassDisk lets a VMM that was taken over answer anything on its monitor, and then hang up, say no more or never
// stop: handing it a file succeeds or fails, in time.
func FuzzPassDisk(f *testing.F) {
	const greeting = `{"QMP": {"version": {}, "capabilities": ["oob"]}}` + "\n"
	const agreed = greeting + `{"return": {}, "id": "qmp_capabilities"}` + "\n"
	const whole = agreed + `{"return": {"fd": 9, "fdset-id": 3}, "id": "add-fd"}` + "\n"
	f.Add([]byte(""), byte(thenHangsUp))
	f.Add([]byte(greeting), byte(thenHangsUp))
	f.Add([]byte(whole), byte(thenHangsUp))
	f.Add([]byte(agreed+`{"event": "STOP"}{"return": {"fdset-id": 4}, "id": "add-fd"}`), byte(thenHangsUp))
	f.Add([]byte(agreed+`{"error": {"class": "GenericError", "desc": "no"}, "id": "add-fd"}`), byte(thenHangsUp))
	f.Add([]byte(`{"QMP": null}{"return": null}{"error": null}`), byte(thenHangsUp))
	f.Add([]byte(agreed+`{"return": [[[[[[[[{"fdset-id": -1}]]]]]]]], "id": "add-fd"}`), byte(thenHangsUp))

	for _, says := range []string{"", greeting, agreed, whole, `{"event": "STOP"}`, `{`, " "} {
		f.Add([]byte(says), byte(thenIsSilent))
		f.Add([]byte(says), byte(thenRepeatsItself))
	}

	directory := f.TempDir()
	given, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { given.Close() })
	f.Fuzz(func(t *testing.T, says []byte, then byte) {
		path := filepath.Join(directory, monitorSocket)
		_ = os.Remove(path)
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		end := make(chan struct{})
		var vmm sync.WaitGroup
		defer vmm.Wait()
		defer close(end)
		vmm.Go(func() {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			defer connection.Close()
			_, _ = connection.Write(says)
			// The requests are read, or their writer could fail before it reads the answers.
			vmm.Go(func() { _, _ = io.Copy(io.Discard, connection) })
			switch then % thenWays {
			case thenHangsUp:
				time.Sleep(5 * time.Millisecond)
				return
			case thenRepeatsItself:
				for len(says) > 0 {
					if _, err := connection.Write(says); err != nil {
						return
					}
				}
			}
			<-end
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if then%thenWays != thenHangsUp {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- passTo(ctx, &vm{directory: directory}, given, 3) }()
		select {
		case err = <-result:
		case <-time.After(10 * time.Second):
			t.Fatal("no end long after its time")
		}
		if string(says) == whole && then == thenHangsUp && err != nil {
			t.Fatal(err)
		}
	})
}
