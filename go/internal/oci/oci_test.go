package oci

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPlainHTTPOnlyOnThisHost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer server.Close()
	get := func(transport http.RoundTripper, address string) error {
		request, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}
	if err := get(newTransport(authority(server), time.Second), server.URL); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []struct {
		registry string
		address  string
	}{
		{"registry.example.com", "http://registry.example.com/"}, {"10.0.0.1", "http://10.0.0.1/"},
		{authority(server), "http://192.0.2.1/"}, {authority(server), "http://example.com/"},
	} {
		if err := get(newTransport(refused.registry, time.Second), refused.address); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
			t.Errorf("%v: %v", refused, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for authority, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.9.8.7": true, "localhost": true, "localhost:80": true, "[::1]:5000": true, "::1": true,
		"10.0.0.1:5000": false, "example.com": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "": false,
	} {
		if isLoopback(authority) != want {
			t.Errorf("%q", authority)
		}
	}
}

// TestWhereARegistryMayLead: nothing is asked that is private and not the registry itself, whoever follows the redirect.
func TestWhereARegistryMayLead(t *testing.T) {
	for address, want := range map[string]bool{
		"https://blobs.example.net/x": true, "https://registry.example.com/y": true, "https://8.8.8.8/": true,
		"https://127.0.0.1/": false, "https://[::1]/": false, "https://localhost/": false, "https://10.1.2.3/": false,
		"https://169.254.169.254/": false, "https://[fe80::1]/": false, "https://[::ffff:10.0.0.1]/": false, "https://0.0.0.0/": false,
		"https://LOCALHOST/": false, "https://localhost./": false, "https://a.localhost/": false, "https://127.1/": false,
		"https://2130706433/": false, "https://0x7f000001/": false, "https://[fe80::1%25eth0]/": false,
	} {
		asked := false
		transport := &guarded{home: "registry.example.com", idle: time.Second, inner: roundTripFunc(func(*http.Request) (*http.Response, error) {
			asked = true
			return &http.Response{Body: http.NoBody}, nil
		})}
		request, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := transport.RoundTrip(request); err == nil {
			_ = response.Body.Close()
		}
		if asked != want {
			t.Errorf("%s: asked: %v", address, asked)
		}
	}
	if checkRedirect(nil, make([]*http.Request, maxRedirects+1)) == nil {
		t.Error("round in circles")
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// TestStall: bytes that go on coming keep a request alive for longer than it may say nothing, and no longer than that.
func TestStall(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 6 {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := newTransport(authority(server), 400*time.Millisecond).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if len(body) != 6 || !errors.Is(err, errStalled) {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
}

func TestChoose(t *testing.T) {
	const image = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:`
	platform := func(digit, platform string) string {
		return image + strings.Repeat(digit, 64) + `","platform":` + platform + `}`
	}
	list := func(entries ...string) []byte {
		return []byte(`{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`)
	}
	v3 := platform("3", `{"os":"linux","architecture":"amd64","variant":"v3"}`)
	plain := platform("0", `{"os":"linux","architecture":"amd64"}`)
	others := platform("a", `{"os":"linux","architecture":"arm64"}`) + "," + platform("b", `{"os":"windows","architecture":"amd64"}`) +
		"," + platform("c", `{"os":"unknown","architecture":"unknown"}`)
	for want, document := range map[string][]byte{"0": list(others, v3, plain), "3": list(v3, others)} {
		if chosen, err := choose(document); err != nil || chosen.Digest.Hex[:1] != want {
			t.Errorf("%v, %v", chosen, err)
		}
	}
	// An image that says nothing of its platform is taken when there is no other; what an image was made of is none.
	nameless := image + strings.Repeat("d", 64) + `"}`
	made := platform("e", `{"os":"unknown","architecture":"unknown"}`)
	for _, document := range [][]byte{list(nameless), list(nameless, made)} {
		if chosen, err := choose(document); err != nil || chosen.Digest.Hex[:1] != "d" {
			t.Errorf("%v, %v", chosen, err)
		}
	}
	for _, document := range [][]byte{list(others), list(nameless, nameless), list(others, nameless)} {
		if _, err := choose(document); AsFailure(err).Kind != PlatformMissing {
			t.Error(err)
		}
	}
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct {
		document, said string
		kind           types.MediaType
		failure        Kind
	}{
		{`{"schemaVersion":2,"config":{},"layers":[]}`, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", types.OCIManifestSchema1, ""},
		{`{"schemaVersion":2,"manifests":[]}`, "text/plain", types.OCIImageIndex, ""},
		{`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}`, "text/plain", types.DockerManifestList, ""},
		{`{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+json", "", Unsupported},
		{`{"schemaVersion":2,"config":{},"layers":[]}`, "application/vnd.oci.image.index.v1+json", "", Damaged},
		{`{"schemaVersion":2,"config":{},"manifests":[]}`, "application/vnd.oci.image.manifest.v1+json", "", Damaged},
		{`hello`, "text/html", "", Damaged},
	} {
		kind, err := kindOf([]byte(test.document), test.said)
		if test.failure != "" {
			if AsFailure(err).Kind != test.failure {
				t.Errorf("%s: %v", test.document, err)
			}
		} else if err != nil || kind != test.kind {
			t.Errorf("%s: %s, %v", test.document, kind, err)
		}
	}
}

func TestCheckEnv(t *testing.T) {
	of := func(count, bytes int) []string {
		env := make([]string, count)
		for n := range env {
			env[n] = "A=" + strings.Repeat("x", bytes-3)
		}
		return env
	}
	for _, env := range [][]string{nil, of(1, maxVariableBytes), of(7, maxVariableBytes), of(maxEnvBytes/24, 16)} {
		if err := checkEnv(env); err != nil {
			t.Errorf("%d variables: %v", len(env), err)
		}
	}
	for _, env := range [][]string{of(1, maxVariableBytes+1), of(8, maxVariableBytes), of(maxEnvBytes/24+1, 16)} {
		if err := checkEnv(env); err == nil || AsFailure(err).Kind != Unsupported {
			t.Errorf("%d variables: %v", len(env), err)
		}
	}
}
