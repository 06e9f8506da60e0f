package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const (
	value = "tok/en+0123456789-\"sëcret\\"
	mark  = "[mark]"
)

func newOne() *Redactor { return New([]Value{{[]byte(value + "\n"), []byte(mark)}}) }

// inPieces is a text that comes in pieces of so many bytes.
func inPieces(r *Redactor, text string, size int) string {
	s := r.Stream()
	var out []byte
	for data := []byte(text); len(data) > 0; {
		count := min(size, len(data))
		out = append(out, s.Push(data[:count])...)
		data = data[count:]
	}
	return string(append(out, s.End()...))
}

func TestForms(t *testing.T) {
	quoted, _ := json.Marshal(value)
	percent := url.QueryEscape(value)
	texts := map[string]string{
		"as it is": value, "in a query": percent, "in a path": url.PathEscape(value), "in small letters": strings.ToLower(percent[:8]) + percent[8:],
		"in JSON": string(quoted[1 : len(quoted)-1]), "in JSON, with codes": `tok\u002fen+0123456789-\"sëcret\\`,
		"with returns": strings.ReplaceAll(value, "9", "9\r"),
	}
	for name, text := range texts {
		for _, size := range []int{1, 2, 3, 7, 1000} {
			if got := inPieces(newOne(), "a "+text+" b", size); got != "a "+mark+" b" {
				t.Errorf("%s, in pieces of %d: %q", name, size, got)
			}
		}
	}
	for before := range 3 {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString([]byte("xyz"[:before] + value + "end"))
			for _, broken := range []string{text, text[:9] + "\r\n  " + text[9:]} {
				got := inPieces(newOne(), broken, 5)
				if !strings.Contains(got, mark) || len(got) > len(mark)+12 {
					t.Errorf("%d bytes before it in base64: %q", before, got)
				}
			}
		}
	}
}

func TestWhatIsNoValuePasses(t *testing.T) {
	for _, text := range []string{"", "tok", "tok/en+012345678", "TOK/EN+0123456789", strings.Repeat("tok/", 50), "%74%6", "\\", "%", "dG9rL2Vu"} {
		text := text + " and so on"
		for _, size := range []int{1, 1000} {
			if got := inPieces(newOne(), text, size); got != text {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
	if out, redacted := newOne().Bytes([]byte(value + value)); string(out) != mark+mark || !redacted {
		t.Errorf("%q", out)
	}
	if New(nil).Text(value) != value {
		t.Error("it is changed for nobody")
	}
}

func TestTheBeginningOfAValueAtTheEnd(t *testing.T) {
	if got := inPieces(newOne(), "a "+value[:6], 1); got != "a "+mark {
		t.Errorf("%q", got)
	}
	if got := inPieces(newOne(), "a "+value[:5], 1); got != "a "+value[:5] {
		t.Errorf("%q", got)
	}
}

func TestReader(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	text := strings.Repeat("x", 70_000) + value + "y"
	got, err := io.ReadAll(newOne().Reader(iotest.OneByteReader(strings.NewReader(text)), done))
	if err != nil || string(got) != strings.ReplaceAll(text, value, mark) {
		t.Error(len(got), err)
	}
	failing := io.MultiReader(strings.NewReader("a"+value), iotest.ErrReader(io.ErrUnexpectedEOF))
	if got, err := io.ReadAll(newOne().Reader(failing, done)); err != io.ErrUnexpectedEOF || string(got) != "a"+mark {
		t.Errorf("%q %v", got, err)
	}
}

func TestAReaderThatIsQuietGivesTheFewThatBeginAValue(t *testing.T) {
	in, out := io.Pipe()
	defer out.Close()
	done := make(chan struct{})
	defer close(done)
	reader := newOne().Reader(in, done)
	go func() { _, _ = io.WriteString(out, "> tok") }()
	got := make([]byte, 5)
	read := make(chan error, 1)
	go func() { _, err := io.ReadFull(reader, got); read <- err }()
	select {
	case err := <-read:
		if err != nil || string(got) != "> tok" {
			t.Fatalf("%q %v", got, err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it is held for ever")
	}
	go func() { _, _ = io.WriteString(out, value[3:]+"!"); out.Close() }()
	if rest, err := io.ReadAll(reader); err != nil || string(rest) != mark+"!" {
		t.Errorf("%q %v", rest, err)
	}
}

// FuzzResponse cuts anything anywhere: what comes out is the same, and holds no value.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("a "+value+" b"), uint8(3), uint8(0))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte("::"+value))), uint8(1), uint8(9))
	f.Add([]byte(url.QueryEscape(value)), uint8(2), uint8(2))
	f.Add([]byte(`"tok\u002fen+01`), uint8(5), uint8(1))
	r := newOne()
	f.Fuzz(func(t *testing.T, data []byte, size, at uint8) {
		text := append(append(append([]byte(nil), data[:min(int(at), len(data))]...), value...), data[min(int(at), len(data)):]...)
		for _, whole := range [][]byte{data, text} {
			once, redacted := r.Bytes(whole)
			if bytes.Contains(once, []byte(value)) {
				t.Fatalf("%q holds the value", once)
			}
			if !redacted && !bytes.Equal(once, whole) {
				t.Fatalf("%q became %q", whole, once)
			}
			if pieces := inPieces(r, string(whole), int(size)+1); pieces != string(once) {
				t.Fatalf("in pieces of %d: %q, at once %q", int(size)+1, pieces, once)
			}
		}
		if _, redacted := r.Bytes(text); !redacted {
			t.Fatalf("the value in %q is not found", text)
		}
	})
}
