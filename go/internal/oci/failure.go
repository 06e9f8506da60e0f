// Package oci fetches an image of one platform from a registry into files, every byte of it checked against the digest
// that names it.
//
// This file owns the kinds of failure and what of net/http and go-containerregistry becomes which.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"pyro.dev/pyro/go/internal/flatten"
)

// Kind is a word that the daemon knows.
type Kind string

// What can go wrong, by what can be done about it.
const (
	NotFound        Kind = "not_found"
	Unauthorized    Kind = "unauthorized"
	Unreachable     Kind = "unreachable"
	Damaged         Kind = "damaged"
	PlatformMissing Kind = "platform_missing"
	Unsupported     Kind = "unsupported"
	TooLarge        Kind = "too_large"
	DiskFull        Kind = "disk_full"
	Invalid         Kind = "invalid"
	Host            Kind = "host"
)

// Failure is why an image could not be had. Message is a whole sentence without its full stop.
type Failure struct {
	Kind    Kind
	Message string
	Cause   error
	// again is set where asking again soon may help.
	again bool
}

// Error can be shown to anybody: what a registry wrote into it is short, on one line, and has no signature that opens a
// door.
func (f *Failure) Error() string {
	said := plain(f.Message, maxMessage)
	if f.Cause != nil {
		said += ": " + plain(f.Cause.Error(), maxCause)
	}
	return said
}

func (f *Failure) Unwrap() error { return f.Cause }

func fail(kind Kind, format string, arguments ...any) *Failure {
	return &Failure{Kind: kind, Message: fmt.Sprintf(format, arguments...)}
}

// AsFailure finds the Failure in any error of this program.
func AsFailure(err error) *Failure {
	var failure *Failure
	var malformed *flatten.MalformedError
	var unsupported *flatten.UnsupportedError
	var limit *flatten.LimitError
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &malformed):
		return &Failure{Kind: Damaged, Message: "a layer cannot be unpacked: " + malformed.Error()}
	case errors.As(err, &unsupported):
		return &Failure{Kind: Unsupported, Message: "a layer cannot be unpacked: " + unsupported.Error()}
	case errors.As(err, &limit):
		return &Failure{Kind: TooLarge, Message: limit.Error()}
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return &Failure{Kind: DiskFull, Message: "there is no space left to unpack the image"}
	}
	return &Failure{Kind: Host, Message: "the image could not be stored", Cause: err}
}

// ofRequest says what became of a request for `what`.
func (r *Registry) ofRequest(what string, err error) error {
	var failure *Failure
	var answer *transport.Error
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &answer):
		return r.ofStatus(what, answer.StatusCode, diagnosis(answer))
	case errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded):
		return fail(Unreachable, "the registry %s did not answer in %s while pyro asked for %s", r.host, r.idle, what)
	case errors.Is(err, context.Canceled):
		return err
	}
	return &Failure{Kind: Unreachable, Message: fmt.Sprintf("the registry %s could not be asked for %s", r.host, what),
		Cause: err, again: errors.Is(err, syscall.ECONNRESET)}
}

func (r *Registry) ofStatus(what string, status int, said string) error {
	if said != "" {
		said = " (" + said + ")"
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fail(Unauthorized, "the registry %s refused %s%s: it does not exist, or wants a login", r.host, what, said)
	case status == http.StatusNotFound:
		return fail(NotFound, "the registry %s does not have %s%s", r.host, what, said)
	}
	failure := fail(Unreachable, "the registry %s answered %d when asked for %s%s", r.host, status, what, said)
	failure.again = status >= 500 || status == http.StatusTooManyRequests
	return failure
}

// ofBody says what became of the body of an answer of which `got` bytes came. How HTTP/1 and HTTP/2 break off has many
// names; whatever it was, another attempt may go better. One that stood still has had its time.
func (r *Registry) ofBody(what string, got int64, of string, err error) error {
	if errors.Is(err, errStalled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return r.ofRequest(what, err)
	}
	return &Failure{Kind: Damaged, Message: fmt.Sprintf("%s broke off after %d%s bytes", what, got, of), Cause: err, again: true}
}

// diagnosis is what the registry itself says, cut short: it comes from a stranger.
func diagnosis(answer *transport.Error) string {
	var said []string
	for _, one := range answer.Errors {
		said = append(said, string(one.Code))
	}
	return plain(strings.Join(said, ", "), maxSaid)
}

const (
	// maxSaid is how much of a registry's own words is passed on, maxCause how much of an error that may quote it, bytes.
	maxSaid    = 100
	maxCause   = 300
	maxMessage = 2000
)

// queries are those of addresses: the ones that registries redirect to carry signatures that are as good as a login.
var queries = regexp.MustCompile(`\?[^\s"'<>]+`)

// plain makes text of strangers fit for a terminal, a log and a model: no queries of addresses, nothing that is not
// printed, at most `limit` bytes.
func plain(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, queries.ReplaceAllLiteralString(strings.ToValidUTF8(text, "\uFFFD"), "?..."))
	if len(text) <= limit {
		return text
	}
	const cut = "..."
	return strings.ToValidUTF8(text[:limit-len(cut)], "") + cut
}
