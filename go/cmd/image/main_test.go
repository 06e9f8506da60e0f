package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestMain is the program of TestBoundMemory too: the bound is a process's own, and what is beyond it ends the process.
func TestMain(m *testing.M) {
	if os.Getenv("PYRO_TEST_MEMORY") == "" {
		os.Exit(m.Run())
	}
	if err := boundMemory(); err != nil {
		panic(err)
	}
	taken := make([]byte, 2<<30)
	_, _ = os.Stdout.WriteString("2 GiB\n")
	more := make([]byte, 3<<30)
	_, _ = os.Stdout.WriteString("5 GiB\n")
	runtime.KeepAlive(taken)
	runtime.KeepAlive(more)
	os.Exit(0)
}

func TestBoundMemory(t *testing.T) {
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "PYRO_TEST_MEMORY=1")
	var out, errorText strings.Builder
	program.Stdout, program.Stderr = &out, &errorText
	var ended *exec.ExitError
	if err := program.Run(); !errors.As(err, &ended) || out.String() != "2 GiB\n" {
		t.Fatalf("%v, after %q", err, out.String())
	}
	// The daemon knows it by these words (src/environments/oci.ts).
	if !regexp.MustCompile(`(?m)^(fatal error|runtime): .*(out of memory|cannot allocate)`).MatchString(errorText.String()) {
		t.Fatalf("it says %.300s", errorText.String())
	}
}
