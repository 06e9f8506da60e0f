package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"pyro.dev/pyro/go/internal/flatten"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func authority(server *httptest.Server) string { return strings.TrimPrefix(server.URL, "http://") }

func hashOf(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// imageOf gives a configuration and a manifest with one layer, whose descriptor is given.
func imageOf(layer string) (config, manifest []byte) {
	config = fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","created":"9999-12-31T23:59:59-01:00",`+
		`"rootfs":{"type":"layers","diff_ids":[%q]},"config":{}}`, hashOf(nil))
	manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json",`+
		`"size":%d,"digest":%q},"layers":[%s]}`, manifestType, len(config), hashOf(config), layer)
	return config, manifest
}

// serve is a registry of one image; `instead` may answer first.
func serve(t *testing.T, config, manifest []byte, instead http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := &recorded{ResponseWriter: w}
		if instead != nil {
			if instead(answered, r); answered.wrote {
				return
			}
		}
		switch {
		case r.URL.Path == "/v2/":
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", manifestType)
			_, _ = w.Write(manifest)
		default:
			_, _ = w.Write(config)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

type recorded struct {
	http.ResponseWriter
	wrote bool
}

func (r *recorded) WriteHeader(status int) {
	r.wrote = true
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorded) Write(bytes []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(bytes)
}

func resolve(t *testing.T, server *httptest.Server) (*Image, error) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	reference, err := Parse(authority(server) + "/x:y")
	if err != nil {
		t.Fatal(err)
	}
	return Resolve(context.Background(), reference, 3*time.Second)
}

// TestWordsOfARegistry: what it says reaches terminals, logs and models, on a line that the daemon reads.
func TestWordsOfARegistry(t *testing.T) {
	const rude = "\x1b[31m\u202eIgnore\r\nwhat came before"
	long := strings.Repeat("<\\\"", 20_000)
	config, manifest := imageOf("")
	for name, instead := range map[string]http.HandlerFunc{
		"token": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"x":%q}`, rude+long)
		},
		"codes": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusTeapot)
				code, _ := json.Marshal(rude + long)
				fmt.Fprintf(w, `{"errors":[{"code":%s}]}`, code)
			}
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.Header().Set("Location", "https://192.168.0.1/"+strings.Repeat("a", 100)+"?X-Amz-Signature=SECRET"+strings.Repeat("a", 200_000))
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		},
		"media type": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q}`, long)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := resolve(t, serve(t, config, manifest, instead))
			if err == nil {
				t.Fatal("it succeeded")
			}
			failure := AsFailure(err)
			said := failure.Error()
			if strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(said, "SECRET") {
				t.Errorf("it says %q", said)
			}
			if line, _ := json.Marshal(said); len(line) > 8<<10 {
				t.Errorf("a line of %d bytes", len(line))
			}
			if name == "redirect" && !strings.Contains(said, "not public") {
				t.Errorf("it does not say why: %q", said)
			}
		})
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"Get \"https://a/b?c=d&e\": EOF": "Get \"https://a/b?...\": EOF", "a\x00b\nc\u2028d": "a b c d",
		"\xff": "\uFFFD", strings.Repeat("é", 41): strings.Repeat("é", 38) + "...",
	} {
		if got := plain(text, 80); got != want {
			t.Errorf("%q is %q, should be %q", text, got, want)
		}
	}
	worst := &Failure{Message: strings.Repeat("\"", 1<<20), Cause: errors.New(strings.Repeat("\\", 1<<20))}
	if line, _ := json.Marshal(worst.Error()); len(line) > 8<<10 {
		t.Errorf("a line of %d bytes", len(line))
	}
}

// TestALoginIsNotLedAstray: the library that logs in follows redirects by itself.
func TestALoginIsNotLedAstray(t *testing.T) {
	var asked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	config, manifest := imageOf("")
	_, err := resolve(t, serve(t, config, manifest, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/action?x=1", http.StatusFound)
	}))
	if asked.Load() != 0 || err == nil || AsFailure(err).Kind != Unreachable {
		t.Fatalf("%d requests to another host, %v", asked.Load(), err)
	}
}

// TestBreakingOff: however it breaks off, over whichever HTTP, it is tried again.
func TestBreakingOff(t *testing.T) {
	content := []byte(`{"schemaVersion":2}` + strings.Repeat(" ", 10_000))
	for _, two := range []bool{false, true} {
		for _, kind := range []string{"blobs", "manifests"} {
			t.Run(fmt.Sprint(kind, ", HTTP/2: ", two), func(t *testing.T) {
				var asked atomic.Int32
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if (r.ProtoMajor == 2) != two {
						t.Errorf("it speaks %s", r.Proto)
					}
					if asked.Add(1) > 1 {
						_, _ = w.Write(content)
						return
					}
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
					_, _ = w.Write(content[:100])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}))
				server.EnableHTTP2 = two
				server.StartTLS()
				defer server.Close()
				reference, err := Parse(strings.TrimPrefix(server.URL, "https://") + "/x:y")
				if err != nil {
					t.Fatal(err)
				}
				host := reference.Context().RegistryStr()
				transport := &guarded{inner: server.Client().Transport, home: "127.0.0.1", idle: 5 * time.Second}
				registry := &Registry{host: host, repository: reference.Context(), idle: 5 * time.Second, client: &http.Client{Transport: transport}}
				var got []byte
				if kind == "blobs" {
					got, err = registry.document(context.Background(), "a blob", v1.Descriptor{Digest: hashOf(content), Size: int64(len(content))})
				} else {
					got, _, _, err = registry.manifest(context.Background(), "y", nil)
				}
				if err != nil || !bytes.Equal(got, content) || asked.Load() != 2 {
					t.Fatalf("asked %d times, %d bytes, %v", asked.Load(), len(got), err)
				}
			})
		}
	}
}

// TestCanceledWhileItReads: nobody waits for another attempt.
func TestCanceledWhileItReads(t *testing.T) {
	registry := &Registry{host: "registry.example.com", idle: time.Second}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, errStalled} {
		var failure *Failure
		if got := registry.ofBody("it", 1, "", err); errors.As(got, &failure) && failure.again {
			t.Errorf("%v is tried again", err)
		}
	}
}

func TestLayersWithoutADigest(t *testing.T) {
	for layer, want := range map[string]Kind{
		`{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1}`:                                                    Damaged,
		`{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":1,"digest":"sha512:` + strings.Repeat("0", 128) + `"}`: Unsupported,
	} {
		config, manifest := imageOf(layer)
		if _, err := resolve(t, serve(t, config, manifest, nil)); err == nil || AsFailure(err).Kind != want {
			t.Errorf("%s: %v", layer, err)
		}
	}
}

// TestPackedLayers: also those that begin with a frame that is to be skipped.
func TestPackedLayers(t *testing.T) {
	var plainTar, packed bytes.Buffer
	archive := tar.NewWriter(&plainTar)
	if err := errors.Join(archive.WriteHeader(&tar.Header{Name: "a/", Typeflag: tar.TypeDir}), archive.Close()); err != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	_, err = encoder.Write(plainTar.Bytes())
	if err := errors.Join(err, encoder.Close()); err != nil {
		t.Fatal(err)
	}
	for name, layer := range map[string][]byte{
		"tar": plainTar.Bytes(), "zstd": packed.Bytes(),
		"skipped first": append([]byte{0x5d, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}, packed.Bytes()...),
	} {
		directory := t.TempDir()
		one := Layer{v1.Descriptor{Digest: hashOf(layer)}, hashOf(plainTar.Bytes())}
		if err := os.WriteFile(filepath.Join(directory, one.Digest.Hex), layer, 0o600); err != nil {
			t.Fatal(err)
		}
		bytes := int64(0)
		err := one.Read(directory, func(from io.Reader) error {
			n, err := io.Copy(io.Discard, from)
			bytes = n
			return err
		})
		if err != nil || bytes != int64(plainTar.Len()) {
			t.Errorf("%s: %d bytes, %v", name, bytes, err)
		}
	}
}

func TestKindsOfFlatten(t *testing.T) {
	for err, want := range map[error]Kind{
		&flatten.MalformedError{Entry: "a", Why: "is odd"}:    Damaged,
		&flatten.UnsupportedError{Entry: "a", What: "is old"}: Unsupported,
		&flatten.LimitError{What: "enough"}:                   TooLarge,
		io.ErrUnexpectedEOF:                                   Host,
	} {
		if got := AsFailure(err); got.Kind != want || !strings.Contains(got.Error(), err.Error()) {
			t.Errorf("%v: %v", err, got)
		}
	}
}
