// This file owns asking a registry: login, manifests and blobs by digest, and asking again.
package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// maxDocument bounds manifests and configurations, which are held in memory.
	maxDocument = 8 << 20
	// attempts for what may be a passing fault.
	attempts = 3
	// loginDeadline bounds a credential helper, which is another program.
	loginDeadline = 30 * time.Second
)

// Registry asks for one repository.
type Registry struct {
	host       string
	repository name.Repository
	client     *http.Client
	idle       time.Duration
}

// Open logs in where the user's docker configuration has a login. idle is how long the registry may say nothing.
func Open(ctx context.Context, repository name.Repository, idle time.Duration) (*Registry, error) {
	host := repository.RegistryStr()
	r := &Registry{host: host, repository: repository, idle: idle}
	login, err := credentials(ctx, repository)
	if err != nil {
		return nil, &Failure{Kind: Unauthorized, Message: "the login for " + host + " could not be read", Cause: err}
	}
	scopes := []string{repository.Scope(transport.PullScope)}
	var through http.RoundTripper
	err = again(ctx, func() error {
		base := newTransport(host, idle)
		through, err = transport.NewWithContext(ctx, repository.Registry, login, base, scopes)
		if err != nil {
			return r.ofRequest("a login", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.client = &http.Client{Transport: through, CheckRedirect: checkRedirect}
	return r, nil
}

func credentials(ctx context.Context, repository name.Repository) (authn.Authenticator, error) {
	type answer struct {
		login authn.Authenticator
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		login, err := authn.Resolve(ctx, authn.DefaultKeychain, repository)
		answered <- answer{login, err}
	}()
	select {
	case got := <-answered:
		return got.login, got.err
	case <-time.After(loginDeadline):
		return nil, errors.New("the credential helper does not answer")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// again tries what failed for a passing reason a few times.
func again(ctx context.Context, try func() error) error {
	for attempt := 1; ; attempt++ {
		err := try()
		var failure *Failure
		if err == nil || attempt == attempts || !errors.As(err, &failure) || !failure.again {
			return err
		}
		select {
		case <-time.After(time.Duration(attempt) * time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// manifest fetches a manifest by tag or digest and returns its bytes, checked, with their type and digest.
func (r *Registry) manifest(ctx context.Context, reference string, want *v1.Hash) ([]byte, string, v1.Hash, error) {
	what := "the manifest of " + reference
	var document []byte
	var mediaType string
	var digest v1.Hash
	err := again(ctx, func() error {
		response, err := r.get(ctx, what, "manifests/"+reference, acceptedManifests)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if document, err = r.readDocument(what, response.Body); err != nil {
			return err
		}
		mediaType = response.Header.Get("Content-Type")
		sum := sha256.Sum256(document)
		digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
		// What a tag stands for the registry says beside it.
		if said, err := v1.NewHash(response.Header.Get("Docker-Content-Digest")); want == nil && err == nil {
			want = &said
		}
		return nil
	})
	if err != nil {
		return nil, "", digest, err
	}
	if want != nil && *want != digest {
		return nil, "", digest, fail(Damaged, "%s is not what its digest %s says", what, want)
	}
	return document, mediaType, digest, nil
}

// document fetches a small blob into memory.
func (r *Registry) document(ctx context.Context, what string, of v1.Descriptor) ([]byte, error) {
	if of.Size > maxDocument {
		return nil, fail(TooLarge, "%s has %d bytes; at most %d are taken", what, of.Size, maxDocument)
	}
	var into bytes.Buffer
	err := r.blob(ctx, what, of, &into, func() error { into.Reset(); return nil }, func(int) {})
	return into.Bytes(), err
}

// blob fetches a blob into `into`, exactly its bytes. `restart` empties it before each attempt, `count` hears of bytes.
func (r *Registry) blob(
	ctx context.Context, what string, of v1.Descriptor, into io.Writer, restart func() error, count func(bytes int),
) error {
	if of.Digest.Algorithm != "sha256" {
		return fail(Unsupported, "%s is named by the digest %s; pyro knows only sha256", what, of.Digest.Algorithm)
	}
	return again(ctx, func() error {
		if err := restart(); err != nil {
			return err
		}
		response, err := r.get(ctx, what, "blobs/"+of.Digest.String(), "")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		sum := sha256.New()
		// One byte more than it should have tells of those that are too many.
		from := &source{from: io.LimitReader(response.Body, of.Size+1), sum: sum, count: count}
		n, err := io.Copy(into, from)
		switch {
		case from.err != nil:
			return r.ofBody(what, n, fmt.Sprintf(" of %d", of.Size), from.err)
		case err != nil:
			return err
		case n != of.Size:
			return fail(Damaged, "%s is not as long as its manifest says: %d bytes", what, of.Size)
		case hex.EncodeToString(sum.Sum(nil)) != of.Digest.Hex:
			return fail(Damaged, "%s is not what its digest %s says", what, of.Digest)
		}
		return nil
	})
}

// source tells faults of the registry from those of the disk, hashes and counts.
type source struct {
	from  io.Reader
	sum   hash.Hash
	count func(int)
	err   error
}

func (s *source) Read(into []byte) (int, error) {
	n, err := s.from.Read(into)
	s.sum.Write(into[:n])
	s.count(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (r *Registry) get(ctx context.Context, what, path, accept string) (*http.Response, error) {
	// The transport knows whether it is https.
	address := fmt.Sprintf("https://%s/v2/%s/%s", r.host, r.repository.RepositoryStr(), path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, r.ofRequest(what, err)
	}
	if err := transport.CheckError(response, http.StatusOK); err != nil {
		_ = response.Body.Close()
		return nil, r.ofRequest(what, err)
	}
	return response, nil
}

func (r *Registry) readDocument(what string, body io.Reader) ([]byte, error) {
	document, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	switch {
	case err != nil:
		return nil, r.ofBody(what, int64(len(document)), "", err)
	case len(document) > maxDocument:
		return nil, fail(TooLarge, "%s has more than %d bytes", what, maxDocument)
	}
	return document, nil
}
