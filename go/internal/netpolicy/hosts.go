// This file owns the allow-list: what may stand in it and what a name matches.
package netpolicy

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxName is the longest name of a host, bytes, without the dot behind it.
const maxName = 253

// Hosts is an allow-list. The zero value allows nothing.
type Hosts struct {
	names     map[string]bool
	suffixes  map[string]bool
	addresses map[netip.Addr]bool
}

// ParseHosts reads an allow-list: names, `*.` patterns for everything below a name, and addresses.
func ParseHosts(texts []string) (Hosts, error) {
	hosts := Hosts{names: map[string]bool{}, suffixes: map[string]bool{}, addresses: map[netip.Addr]bool{}}
	for _, text := range texts {
		if address, err := netip.ParseAddr(text); err == nil {
			hosts.addresses[address.Unmap()] = true
			continue
		}
		name, below := strings.CutPrefix(text, "*.")
		name, ok := Name(name)
		if !ok {
			return Hosts{}, fmt.Errorf("%q is no host name, pattern or address", text)
		}
		if below {
			hosts.suffixes[name] = true
		} else {
			hosts.names[name] = true
		}
	}
	return hosts, nil
}

// Name is a host name as it is compared: lower case, without a dot behind it. False for what is none, an address too.
func Name(text string) (string, bool) {
	text = strings.ToLower(strings.TrimSuffix(text, "."))
	if text == "" || len(text) > maxName {
		return "", false
	}
	for _, label := range strings.Split(text, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", false
			}
		}
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return "", false
	}
	return text, true
}

// Allows tells whether a name, as Name gives it, is in the list. `*.example.org` is every name below example.org, at any
// depth, and not example.org itself.
func (h Hosts) Allows(name string) bool {
	if h.names[name] {
		return true
	}
	for {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			return false
		}
		if h.suffixes[rest] {
			return true
		}
		name = rest
	}
}

// AllowsAddress tells whether an address stands in the list itself.
func (h Hosts) AllowsAddress(address netip.Addr) bool { return h.addresses[address.Unmap()] }
