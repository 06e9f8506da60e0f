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
	"strings"
	"syscall"

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

func (f *Failure) Error() string {
	if f.Cause == nil {
		return f.Message
	}
	return f.Message + ": " + f.Cause.Error()
}

func (f *Failure) Unwrap() error { return f.Cause }

func fail(kind Kind, format string, arguments ...any) *Failure {
	return &Failure{Kind: kind, Message: fmt.Sprintf(format, arguments...)}
}

// AsFailure finds the Failure in any error of this program.
func AsFailure(err error) *Failure {
	var failure *Failure
	var malformed *flatten.MalformedError
	var limit *flatten.LimitError
	switch {
	case errors.As(err, &failure):
		return failure
	case errors.As(err, &malformed):
		return &Failure{Kind: Damaged, Message: "a layer cannot be unpacked", Cause: err}
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

// diagnosis is what the registry itself says, cut short: it comes from a stranger.
func diagnosis(answer *transport.Error) string {
	var said []string
	for _, one := range answer.Errors {
		said = append(said, string(one.Code))
	}
	return fmt.Sprintf("%.100s", strings.Join(said, ", "))
}
