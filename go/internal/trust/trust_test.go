package trust

import (
	"errors"
	"testing"
)

func TestWhatIsNoCertificateIsRefused(t *testing.T) {
	for _, text := range []string{"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := Add([]byte(text), nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
