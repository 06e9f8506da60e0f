package broker

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// FuzzSubstitution puts a value into a request that may be anything: nothing else of it changes, and no placeholder stays.
func FuzzSubstitution(f *testing.F) {
	f.Add("Bearer "+placeholder, "a="+placeholder, []byte(`{"a":"`+placeholder+`"}`), "application/json")
	f.Add("Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+placeholder)), "", []byte(placeholder), "text/plain; a=b")
	f.Add("Basic ====", "%", []byte{}, "application/x-www-form-urlencoded")
	list := []secret{{name: "TOKEN", placeholder: placeholder, value: token}}
	f.Fuzz(func(t *testing.T, header, query string, body []byte, kind string) {
		s := newSubstitution(list)
		headers := http.Header{"X-Key": {header}, "Authorization": {header}}
		if err := s.header(headers); err == nil {
			for name, values := range headers {
				if strings.Contains(values[0], placeholder) {
					t.Fatalf("%s: %q", name, values[0])
				}
			}
			if want := strings.ReplaceAll(header, placeholder, token); headers.Get("X-Key") != want {
				t.Fatalf("%q became %q", header, headers.Get("X-Key"))
			}
		}
		if text := s.query(query); strings.Contains(text, placeholder) || !strings.Contains(query, placeholder) && text != query {
			t.Fatalf("%q became %q", query, text)
		}
		if made := s.body(body, kind); bytes.Contains(made, []byte(placeholder)) || !bytes.Contains(body, []byte(placeholder)) && !bytes.Equal(made, body) {
			t.Fatalf("%q became %q", body, made)
		}
	})
}
