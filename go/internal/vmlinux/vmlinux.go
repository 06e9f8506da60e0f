// Package vmlinux owns taking the kernel proper, an ELF file, out of the compressed image that distributions install: a
// VMM that brings no boot loader starts nothing else. What is read is Debian's form of it: a bzImage whose payload is lz4.
package vmlinux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pierrec/lz4/v4"
)

const (
	// Places in the head of a bzImage (Linux, Documentation/arch/x86/boot.rst).
	setupSectorsAt  = 0x1f1
	magicAt         = 0x202
	versionAt       = 0x206
	payloadOffsetAt = 0x248
	payloadLengthAt = 0x24c
	headBytes       = 0x250
	sectorBytes     = 512
	// payloadVersion is the first version of the boot protocol that tells where the payload is.
	payloadVersion = 0x208
	// lz4Magic begins lz4's older form, the one that kernels are packed in, and blockBytes is the most in a block of it.
	lz4Magic   = 0x184c2102
	blockBytes = 8 << 20
	// maxBytes is the largest kernel that is believed.
	maxBytes = 512 << 20
)

// Extract gives the ELF file in a bzImage.
func Extract(image []byte) ([]byte, error) {
	payload, err := payloadOf(image)
	if err != nil {
		return nil, err
	}
	// The build appends how large the kernel is.
	size := binary.LittleEndian.Uint32(payload[len(payload)-4:])
	if size > maxBytes {
		return nil, fmt.Errorf("the kernel claims to have %d bytes", size)
	}
	kernel, err := unpack(payload[:len(payload)-4], int(size))
	if err != nil {
		return nil, err
	}
	if len(kernel) != int(size) {
		return nil, fmt.Errorf("the kernel has %d bytes, and should have %d", len(kernel), size)
	}
	if !bytes.HasPrefix(kernel, []byte("\x7fELF")) {
		return nil, errors.New("what was unpacked is no ELF file")
	}
	return kernel, nil
}

func payloadOf(image []byte) ([]byte, error) {
	if len(image) < headBytes || string(image[magicAt:magicAt+4]) != "HdrS" {
		return nil, errors.New("this is no bzImage")
	}
	if binary.LittleEndian.Uint16(image[versionAt:]) < payloadVersion {
		return nil, errors.New("the image is of too old a form: it does not tell where its payload is")
	}
	setup := uint64(image[setupSectorsAt])
	if setup == 0 {
		setup = 4
	}
	from := (setup+1)*sectorBytes + uint64(binary.LittleEndian.Uint32(image[payloadOffsetAt:]))
	length := uint64(binary.LittleEndian.Uint32(image[payloadLengthAt:]))
	if length < 8 || from+length > uint64(len(image)) {
		return nil, errors.New("the image is cut off")
	}
	return image[from : from+length], nil
}

// unpack undoes lz4's older form: a magic number, then blocks that each begin with their packed length.
func unpack(packed []byte, size int) ([]byte, error) {
	if binary.LittleEndian.Uint32(packed) != lz4Magic {
		return nil, fmt.Errorf("the kernel is packed in another way than lz4 (it begins with %x)", packed[:4])
	}
	kernel := make([]byte, 0, size)
	block := make([]byte, blockBytes)
	for rest := packed[4:]; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, errors.New("the kernel is cut off")
		}
		length := uint64(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		if length > uint64(len(rest)) {
			return nil, errors.New("the kernel is cut off")
		}
		n, err := lz4.UncompressBlock(rest[:length], block)
		if err != nil {
			return nil, fmt.Errorf("the kernel is damaged: %w", err)
		}
		if len(kernel)+n > size {
			return nil, errors.New("the kernel is larger than it claims")
		}
		kernel = append(kernel, block[:n]...)
		rest = rest[length:]
	}
	return kernel, nil
}
