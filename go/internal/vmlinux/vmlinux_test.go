// This file tests the way out of a bzImage, on images that are made here, whole and damaged.
package vmlinux

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// bzImage packs a kernel as a distribution's build does.
func bzImage(t *testing.T, kernel []byte) []byte {
	t.Helper()
	payload := binary.LittleEndian.AppendUint32(nil, lz4Magic)
	for rest := kernel; len(rest) > 0; {
		part := rest[:min(len(rest), blockBytes)]
		rest = rest[len(part):]
		packed := make([]byte, lz4.CompressBlockBound(len(part)))
		n, err := lz4.CompressBlock(part, packed, nil)
		if err != nil || n == 0 {
			t.Fatalf("lz4: %d, %v", n, err)
		}
		payload = binary.LittleEndian.AppendUint32(payload, uint32(n))
		payload = append(payload, packed[:n]...)
	}
	payload = binary.LittleEndian.AppendUint32(payload, uint32(len(kernel)))

	const setup, offset = 3, 96
	image := make([]byte, (setup+1)*sectorBytes+offset)
	image[setupSectorsAt] = setup
	copy(image[magicAt:], "HdrS")
	binary.LittleEndian.PutUint16(image[versionAt:], 0x20f)
	binary.LittleEndian.PutUint32(image[payloadOffsetAt:], offset)
	binary.LittleEndian.PutUint32(image[payloadLengthAt:], uint32(len(payload)))
	// Something follows the payload in a real one.
	return append(append(image, payload...), make([]byte, 4096)...)
}

func kernel(bytes int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	made := []byte("\x7fELF")
	for len(made) < bytes {
		// Compressible, and no two blocks alike.
		made = append(made, strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(40))...)
	}
	return made[:bytes]
}

func TestExtract(t *testing.T) {
	for _, size := range []int{100_000, blockBytes, 2*blockBytes + 12345} {
		want := kernel(size)
		got, err := Extract(bzImage(t, want))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %v, %d came out", size, err, len(got))
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	whole := bzImage(t, kernel(100_000))
	changed := func(change func(image []byte)) []byte {
		image := bytes.Clone(whole)
		change(image)
		return image
	}
	payload := 4*sectorBytes + 96
	for name, image := range map[string][]byte{
		"nothing":         nil,
		"no bzImage":      make([]byte, 100_000),
		"old":             changed(func(image []byte) { binary.LittleEndian.PutUint16(image[versionAt:], 0x207) }),
		"cut off":         whole[:payload+500],
		"another packing": changed(func(image []byte) { image[payload] = 0x1f }),
		"long block":      changed(func(image []byte) { image[payload+7] = 0xff }),
		"no ELF":          bzImage(t, make([]byte, 100_000)),
	} {
		if _, err := Extract(image); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	// Whatever is damaged, it ends, and with an error or the very kernel.
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		image := bytes.Clone(whole)
		image[random.IntN(len(image))] ^= byte(1 + random.IntN(255))
		_, _ = Extract(image)
	}
}
