// This file owns the policy: what of a guest's wishes is allowed, with the reason.
package netpolicy

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
)

// Policy is what the engine asks for. It is checked by Compile.
type Policy struct {
	// AllowHosts narrows to these names, patterns and addresses; nil for every public host.
	AllowHosts []string `json:"allow_hosts"`
	// Public are ranges that count as public whatever else is known of them: for hosts with a network of their own.
	Public []string `json:"public,omitempty"`
}

// Rules are a policy that decides.
type Rules struct {
	// Narrowed: there is an allow-list.
	Narrowed bool
	hosts    Hosts
	public   []netip.Prefix
}

// Compile checks a policy.
func (p Policy) Compile() (*Rules, error) {
	rules := &Rules{Narrowed: len(p.AllowHosts) > 0}
	var err error
	if rules.hosts, err = ParseHosts(p.AllowHosts); err != nil {
		return nil, err
	}
	for _, text := range p.Public {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("public range: %w", err)
		}
		rules.public = append(rules.public, prefix.Masked())
	}
	return rules, nil
}

// NotPublic is NotPublic with the ranges that count as public here.
func (r *Rules) NotPublic(address netip.Addr) string {
	address = address.Unmap()
	for _, prefix := range r.public {
		if prefix.Contains(address) {
			return ""
		}
	}
	return NotPublic(address)
}

// Verdict is a decision with the name it was made for.
type Verdict struct {
	Allowed bool
	// Name is a name that the guest has for the address, empty when it asked for none.
	Name   string
	Reason string
}

// Query decides about a name that the guest asks for.
func (r *Rules) Query(name string) Verdict {
	if r.Narrowed && !r.hosts.Allows(name) {
		return Verdict{Name: name, Reason: "the name is not on the allow-list"}
	}
	return Verdict{Allowed: true, Name: name, Reason: "a name to resolve"}
}

// Connect decides about an address that the guest connects to. names are those it was told for; own are the host's own
// addresses.
func (r *Rules) Connect(address netip.Addr, names []string, own func(netip.Addr) bool) Verdict {
	sort.Strings(names)
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	if why := r.NotPublic(address); why != "" {
		return Verdict{Name: name, Reason: "it is " + why}
	}
	if own(address.Unmap()) {
		return Verdict{Name: name, Reason: "it is an address of this host"}
	}
	if !r.Narrowed {
		return Verdict{Allowed: true, Name: name, Reason: "a public address"}
	}
	for _, one := range names {
		if r.hosts.Allows(one) {
			return Verdict{Allowed: true, Name: one, Reason: "on the allow-list"}
		}
	}
	if r.hosts.AllowsAddress(address) {
		return Verdict{Allowed: true, Name: name, Reason: "the address is on the allow-list"}
	}
	if name != "" {
		return Verdict{Name: name, Reason: "the name is not on the allow-list"}
	}
	return Verdict{Reason: "the address was not given for a name on the allow-list"}
}

// Claim decides about the name that the guest gives inside a connection (TLS's server name, HTTP's Host), under an
// allow-list. It must be one that the address was told for, or the address itself.
func (r *Rules) Claim(claimed string, address netip.Addr, names []string) Verdict {
	if !r.Narrowed {
		return Verdict{Allowed: true, Name: claimed, Reason: "a public address"}
	}
	if given, err := netip.ParseAddr(strings.Trim(claimed, "[]")); err == nil {
		if given.Unmap() == address.Unmap() && r.hosts.AllowsAddress(address) {
			return Verdict{Allowed: true, Name: claimed, Reason: "the address is on the allow-list"}
		}
		return Verdict{Name: claimed, Reason: "the connection asks for an address that is not on the allow-list"}
	}
	name, ok := Name(claimed)
	if !ok {
		return Verdict{Name: claimed, Reason: "the connection asks for something that is no host name"}
	}
	if !r.hosts.Allows(name) {
		return Verdict{Name: name, Reason: "the connection asks for a name that is not on the allow-list"}
	}
	for _, one := range names {
		if one == name {
			return Verdict{Allowed: true, Name: name, Reason: "on the allow-list"}
		}
	}
	if r.hosts.AllowsAddress(address) {
		return Verdict{Allowed: true, Name: name, Reason: "on the allow-list"}
	}
	return Verdict{Name: name, Reason: "the connection asks for a name that this address was not given for"}
}

// ByAddress tells whether an address stands in the allow-list itself: what runs over it needs to say no name.
func (r *Rules) ByAddress(address netip.Addr) bool { return r.hosts.AllowsAddress(address) }
