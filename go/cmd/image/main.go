// Command pyro-image fetches an image from a registry and makes one tar of its layers. It is started by the daemon, one
// process for each image, because what it reads comes from strangers and may be large.
//
// On stdout it tells of its progress, a JSON object a line; the last one is the result or why there is none.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"pyro.dev/pyro/go/internal/oci"
)

func main() {
	os.Exit(run())
}

func run() int {
	reference := flag.String("reference", "", "the image, with its registry")
	directory := flag.String("directory", "", "an empty directory, in which root.tar and result.json are made")
	idle := flag.Duration("idle", 20*time.Second, "how long the registry may say nothing")
	unless := flag.String("unless", "", "the digest of a manifest: of an image with that one nothing is fetched")
	flag.Parse()
	if *reference == "" || *directory == "" || flag.NArg() > 0 {
		flag.Usage()
		return 2
	}
	if err := boundMemory(); err != nil {
		fmt.Fprintln(os.Stderr, "its own memory cannot be bounded:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	work := &work{reference: *reference, directory: *directory, idle: *idle, unless: *unless, out: newReport(os.Stdout)}
	if err := work.pull(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("it was told to stop")
		}
		failure := oci.AsFailure(err)
		work.out.last(map[string]any{"type": "failed", "kind": failure.Kind, "message": failure.Error()})
		return 1
	}
	work.out.last(map[string]any{"type": "done"})
	return 0
}

const (
	// softMemory is where garbage is collected in earnest: above what flatten.DefaultLimits let a tree take.
	softMemory = 1 << 30
	// addressSpace ends the program, should those limits not hold: 1.3 GiB are reserved by the Go runtime itself.
	addressSpace = 4 << 30
)

func boundMemory() error {
	debug.SetMemoryLimit(softMemory)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		return err
	}
	// A lower one that it was started with stays.
	limit.Cur = min(limit.Max, limit.Cur, addressSpace)
	return syscall.Setrlimit(syscall.RLIMIT_AS, &limit)
}

// store writes the result where the daemon reads it: it can be longer than a line may be.
func store(directory string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, "result.json"), text, 0o600); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}
