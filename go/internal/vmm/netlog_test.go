package vmm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDecisionsAreKeptBoundedAndInPlace(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "network")
	line := `{"verdict":"denied","reason":"` + strings.Repeat("x", 1000) + `"}`
	var whole bytes.Buffer
	for i := range 12000 {
		fmt.Fprintf(&whole, "%06d%s\n", i, line)
	}
	// In two halves, as by two launches, with a line between that is none of netd's.
	half := bytes.IndexByte(whole.Bytes()[whole.Len()/2:], '\n') + whole.Len()/2 + 1
	for _, part := range [][]byte{whole.Bytes()[:half], whole.Bytes()[half:]} {
		log, err := openNetLog(directory)
		if err != nil {
			t.Fatal(err)
		}
		log.take(bytes.NewReader(part))
		log.close()
	}
	starts, err := pieces(directory)
	if err != nil || len(starts) == 0 || len(starts) > piecesKept {
		t.Fatal(starts, err)
	}
	for _, start := range starts {
		data, err := os.ReadFile(filepath.Join(directory, fmt.Sprintf("%016d.log", start)))
		if err != nil || len(data) > pieceBytes+maxLogLine {
			t.Fatal(len(data), err)
		}
		if !bytes.Equal(data, whole.Bytes()[start:int(start)+len(data)]) {
			t.Fatalf("the piece at %d is not what was written there", start)
		}
	}
}

func TestALineWithoutEndIsDropped(t *testing.T) {
	directory := t.TempDir()
	log, err := openNetLog(directory)
	if err != nil {
		t.Fatal(err)
	}
	log.take(io.MultiReader(strings.NewReader(strings.Repeat("y", 5*maxLogLine)+"\n{}\n"), strings.NewReader("half")))
	log.close()
	data, err := os.ReadFile(filepath.Join(directory, "0000000000000000.log"))
	if err != nil || bytes.Count(data, []byte("y")) > maxLogLine || !bytes.HasSuffix(data, []byte("\n{}\n")) && string(data) != "{}\n" {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
}
