// This file owns the way out: placeholders in a request become the values that its host may have. What a value is put into
// decides how it is written there.
package broker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

var errUnfit = errors.New("the value of a secret cannot stand in a header")

// substitution puts the values of some secrets into one request, and remembers which.
type substitution struct {
	secrets []secret
	used    map[string]bool
}

func newSubstitution(secrets []secret) *substitution {
	return &substitution{secrets: secrets, used: map[string]bool{}}
}

// in puts values into a text, each written as `write` does.
func (s *substitution) in(text string, write func(string) string) string {
	for _, one := range s.secrets {
		if !strings.Contains(text, one.placeholder) {
			continue
		}
		text = strings.ReplaceAll(text, one.placeholder, write(one.value))
		s.used[one.name] = true
	}
	return text
}

func same(value string) string { return value }

// header puts values into all headers. Errors: errUnfit.
func (s *substitution) header(header http.Header) error {
	for name, values := range header {
		for i, text := range values {
			changed := s.in(text, same)
			if strings.EqualFold(name, "Authorization") {
				changed = s.basic(changed)
			}
			if changed == text {
				continue
			}
			if !httpguts.ValidHeaderFieldValue(changed) {
				return errUnfit
			}
			values[i] = changed
		}
	}
	return nil
}

// basic looks into Basic authorization, where a placeholder is not seen as it is.
func (s *substitution) basic(text string) string {
	scheme, encoded, found := strings.Cut(text, " ")
	if !found || !strings.EqualFold(scheme, "Basic") {
		return text
	}
	encoded = strings.TrimRight(strings.TrimSpace(encoded), "=")
	plain, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return text
	}
	changed := s.in(string(plain), same)
	if changed == string(plain) {
		return text
	}
	return scheme + " " + base64.StdEncoding.EncodeToString([]byte(changed))
}

// query puts values into the query of a request, as it came.
func (s *substitution) query(raw string) string { return s.in(raw, url.QueryEscape) }

// body puts values into a whole body, as its type wants them.
func (s *substitution) body(body []byte, contentType string) []byte {
	write := same
	kind, _, _ := mime.ParseMediaType(contentType)
	switch {
	case kind == "application/x-www-form-urlencoded":
		write = url.QueryEscape
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "application/x-ndjson":
		write = inJSON
	}
	text := string(body)
	if changed := s.in(text, write); changed != text {
		return []byte(changed)
	}
	return body
}

func inJSON(value string) string {
	// A text always has a form in JSON.
	quoted, _ := json.Marshal(value)
	return string(quoted[1 : len(quoted)-1])
}
