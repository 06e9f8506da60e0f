package vmm

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzPassDisk lets a VMM that was taken over answer anything on its monitor: handing it a file succeeds or fails, in
// time.
func FuzzPassDisk(f *testing.F) {
	const greeting = `{"QMP": {"version": {}, "capabilities": ["oob"]}}` + "\n"
	const agreed = greeting + `{"return": {}, "id": "qmp_capabilities"}` + "\n"
	const whole = agreed + `{"return": {"fd": 9, "fdset-id": 3}, "id": "add-fd"}` + "\n"
	f.Add([]byte(""))
	f.Add([]byte(greeting))
	f.Add([]byte(whole))
	f.Add([]byte(agreed + `{"event": "STOP"}{"return": {"fdset-id": 4}, "id": "add-fd"}`))
	f.Add([]byte(agreed + `{"error": {"class": "GenericError", "desc": "no"}, "id": "add-fd"}`))
	f.Add([]byte(`{"QMP": null}{"return": null}{"error": null}`))
	f.Add([]byte(agreed + `{"return": [[[[[[[[{"fdset-id": -1}]]]]]]]], "id": "add-fd"}`))

	directory := f.TempDir()
	given, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { given.Close() })
	f.Fuzz(func(t *testing.T, says []byte) {
		path := filepath.Join(directory, monitorSocket)
		_ = os.Remove(path)
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			defer connection.Close()
			_, _ = connection.Write(says)
			// The requests are read, or their writer could fail before it reads the answers.
			buffer := make([]byte, 4096)
			for {
				_ = connection.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				if _, err := connection.Read(buffer); err != nil {
					return
				}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err = passTo(ctx, &vm{directory: directory}, given, 3)
		if ctx.Err() != nil {
			t.Fatal("no end within the time")
		}
		if string(says) == whole && err != nil {
			t.Fatal(err)
		}
	})
}
