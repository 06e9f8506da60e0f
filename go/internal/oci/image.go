// This file owns finding the image of one platform behind a reference: index, manifest, configuration.
package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	platformOS           = "linux"
	platformArchitecture = "amd64"
	maxLayers            = 256
	maxFetchedBytes      = 16 << 30
	// maxVariableBytes is Linux's bound for one string of an environment, its zero byte counted (MAX_ARG_STRLEN).
	maxVariableBytes = 128 << 10
	// maxEnvBytes is half of what Linux gives a process for arguments and environment together: every process of the
	// image has the variables, and a command and variables of its own beside them.
	maxEnvBytes = 1 << 20
)

// Platform is the only one that is looked for.
const Platform = platformOS + "/" + platformArchitecture

var acceptedManifests = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList),
	string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")

// Image is what a reference stands for.
type Image struct {
	Registry *Registry
	// Digest is that of the manifest of the platform.
	Digest v1.Hash
	// Index is that of the list that named it, if one did.
	Index  *v1.Hash
	Config v1.Hash
	Layers []Layer
	// Env is the image's environment, NAME=VALUE.
	Env []string
}

// Layer is one layer, in the order of their application.
type Layer struct {
	v1.Descriptor
	// DiffID is the digest of the layer unpacked.
	DiffID v1.Hash
}

// Parse reads a reference that names its registry.
func Parse(reference string) (name.Reference, error) {
	parsed, err := name.ParseReference(reference)
	if err != nil {
		return nil, fail(Invalid, "%.200q is no reference of an image", reference)
	}
	return parsed, nil
}

// Resolve finds the image of the platform and reads its configuration.
func Resolve(ctx context.Context, reference name.Reference, idle time.Duration) (*Image, error) {
	registry, err := Open(ctx, reference.Context(), idle)
	if err != nil {
		return nil, err
	}
	image := &Image{Registry: registry}
	var want *v1.Hash
	if digest, is := reference.(name.Digest); is {
		hash, err := v1.NewHash(digest.DigestStr())
		if err != nil || hash.Algorithm != "sha256" {
			return nil, fail(Unsupported, "the digest %.100q is none of sha256", digest.DigestStr())
		}
		want = &hash
	}
	document, said, digest, err := registry.manifest(ctx, reference.Identifier(), want)
	if err != nil {
		return nil, err
	}
	kind, err := kindOf(document, said)
	if err != nil {
		return nil, err
	}
	if kind.IsIndex() {
		chosen, err := choose(document)
		if err != nil {
			return nil, err
		}
		index := digest
		image.Index = &index
		document, said, digest, err = registry.manifest(ctx, chosen.Digest.String(), &chosen.Digest)
		if err != nil {
			return nil, err
		}
		if kind, err = kindOf(document, said); err != nil {
			return nil, err
		}
	}
	if !kind.IsImage() {
		return nil, fail(Unsupported, "it is of the type %.100q, no container image", kind)
	}
	image.Digest = digest
	return image, image.read(ctx, document)
}

// kindOf tells what a manifest is. Its own word counts before the registry's; one that could be read as two things is
// none.
func kindOf(document []byte, said string) (types.MediaType, error) {
	var fields struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(document, &fields); err != nil {
		return "", &Failure{Kind: Damaged, Message: "the manifest is no JSON", Cause: err}
	}
	if fields.SchemaVersion == 1 {
		return "", fail(Unsupported, "its manifest is of the schema 1, which registries gave up years ago")
	}
	header, _, _ := mime.ParseMediaType(said)
	kind := types.MediaType(fields.MediaType)
	if kind == "" {
		kind = types.MediaType(header)
	}
	if fields.Manifests != nil && (fields.Layers != nil || fields.Config != nil) ||
		kind.IsIndex() && fields.Manifests == nil || kind.IsImage() && fields.Config == nil {
		return "", fail(Damaged, "the manifest is not of the type that it is said to be, %.100q", kind)
	}
	switch {
	case kind.IsIndex() || kind.IsImage():
		return kind, nil
	case fields.Manifests != nil:
		return types.OCIImageIndex, nil
	}
	return kind, nil
}

// choose takes the plainest variant of the platform; an image that stands there alone and names none is taken at its
// configuration's word.
func choose(document []byte) (*v1.Descriptor, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(document))
	if err != nil {
		return nil, &Failure{Kind: Damaged, Message: "the list of manifests cannot be read", Cause: err}
	}
	var best, nameless *v1.Descriptor
	var there []string
	images := 0
	for n := range index.Manifests {
		one := &index.Manifests[n]
		platform := one.Platform
		// What is beside an image and no image (what it was made of) is of the platform "unknown".
		if one.MediaType.IsImage() && (platform == nil || platform.OS != "unknown") {
			images++
		}
		if platform == nil {
			if one.MediaType.IsImage() {
				nameless = one
			}
			continue
		}
		there = append(there, fmt.Sprintf("%.40s", platform.String()))
		if platform.OS != platformOS || platform.Architecture != platformArchitecture || !one.MediaType.IsImage() {
			continue
		}
		if best == nil || platform.Variant < best.Platform.Variant {
			best = one
		}
	}
	if best == nil && images == 1 {
		best = nameless
	}
	if best == nil {
		return nil, fail(PlatformMissing, "there is no image for %s, only for %.300s", Platform, strings.Join(there, ", "))
	}
	return best, nil
}

func (i *Image) read(ctx context.Context, document []byte) error {
	manifest, err := v1.ParseManifest(bytes.NewReader(document))
	if err != nil {
		return &Failure{Kind: Damaged, Message: "the manifest cannot be read", Cause: err}
	}
	if !manifest.Config.MediaType.IsConfig() {
		return fail(Unsupported, "its configuration is of the type %.100q: it is no container image", manifest.Config.MediaType)
	}
	text, err := i.Registry.document(ctx, "the configuration", manifest.Config)
	if err != nil {
		return err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(text))
	if err != nil {
		return &Failure{Kind: Damaged, Message: "the configuration cannot be read", Cause: err}
	}
	if config.OS != "" && config.OS != platformOS || config.Architecture != "" && config.Architecture != platformArchitecture {
		return fail(PlatformMissing, "it is an image for %.40s/%.40s, not for %s", config.OS, config.Architecture, Platform)
	}
	if err := checkEnv(config.Config.Env); err != nil {
		return err
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return fail(Damaged, "the manifest has %d layers, the configuration %d", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	if len(manifest.Layers) > maxLayers {
		return fail(TooLarge, "it has %d layers; at most %d are taken", len(manifest.Layers), maxLayers)
	}
	var total int64
	for n, layer := range manifest.Layers {
		if layer.Digest == (v1.Hash{}) {
			return fail(Damaged, "the manifest does not name layer %d by a digest", n+1)
		}
		if layer.Digest.Algorithm != "sha256" {
			return fail(Unsupported, "a layer is named by the digest %.100q; pyro knows only sha256", layer.Digest)
		}
		if !layer.MediaType.IsLayer() || !layer.MediaType.IsDistributable() {
			return fail(Unsupported, "a layer is of the type %.100q", layer.MediaType)
		}
		if total += layer.Size; layer.Size < 0 || total < 0 || total > maxFetchedBytes {
			return fail(TooLarge, "its layers have more than %d MiB, the most that is taken", maxFetchedBytes>>20)
		}
		i.Layers = append(i.Layers, Layer{layer, config.RootFS.DiffIDs[n]})
	}
	i.Config, i.Env = manifest.Config.Digest, config.Config.Env
	return nil
}

// checkEnv refuses variables with which no process could be started.
func checkEnv(env []string) error {
	const pointer = 8
	total := 0
	for _, variable := range env {
		size := len(variable) + 1
		if total += size + pointer; size > maxVariableBytes {
			variableName, _, _ := strings.Cut(variable, "=")
			return fail(Unsupported, "its variable %.100q has %d bytes; a process can have %d in one", variableName, size, maxVariableBytes)
		}
	}
	if total > maxEnvBytes {
		return fail(Unsupported, "its variables have %d bytes; at most %d are taken", total, maxEnvBytes)
	}
	return nil
}
