// Package netpolicy owns what a guest may reach: which addresses are public, which names are allowed, and which
// address was told for which name. It opens no connection and asks nobody.
//
// This file owns the addresses.
package netpolicy

import "net/netip"

// refused are the ranges that are nobody's public addresses, with what a person calls them. IANA's registries of special
// addresses are the source; the first that holds an address names it.
var refused = parseRanges([][2]string{
	{"169.254.169.254/32", "the metadata address"},
	{"fd00:ec2::254/128", "the metadata address"},
	{"0.0.0.0/8", "an unspecified address"},
	{"127.0.0.0/8", "a loopback address"},
	{"10.0.0.0/8", "a private address"},
	{"172.16.0.0/12", "a private address"},
	{"192.168.0.0/16", "a private address"},
	{"100.64.0.0/10", "an address of a carrier's network"},
	{"169.254.0.0/16", "a link-local address"},
	{"192.0.0.0/24", "a special address"},
	{"192.0.2.0/24", "a documentation address"},
	{"192.88.99.0/24", "a relay's address"},
	{"192.31.196.0/24", "a special address"},
	{"192.52.193.0/24", "a special address"},
	{"192.175.48.0/24", "a special address"},
	{"198.18.0.0/15", "a benchmark's address"},
	{"198.51.100.0/24", "a documentation address"},
	{"203.0.113.0/24", "a documentation address"},
	{"224.0.0.0/4", "a multicast address"},
	{"255.255.255.255/32", "the broadcast address"},
	{"240.0.0.0/4", "a reserved address"},
	{"::/128", "an unspecified address"},
	{"::1/128", "a loopback address"},
	{"fe80::/10", "a link-local address"},
	{"fec0::/10", "a private address"},
	{"fc00::/7", "a private address"},
	{"ff00::/8", "a multicast address"},
	{"2001::/23", "a special address"},
	{"2001:db8::/32", "a documentation address"},
	{"3fff::/20", "a documentation address"},
	{"5f00::/16", "a special address"},
	{"100::/64", "a discarding address"},
	{"64:ff9b:1::/48", "a translated address"},
})

const (
	sixToFourAddress  = "a 6to4 address"
	compatibleAddress = "a compatible address"
)

// globalUnicast is what IANA gives out of IPv6; anything else is nobody's.
var globalUnicast = netip.MustParsePrefix("2000::/3")

type addressRange struct {
	prefix netip.Prefix
	name   string
}

func parseRanges(texts [][2]string) []addressRange {
	ranges := make([]addressRange, 0, len(texts))
	for _, text := range texts {
		ranges = append(ranges, addressRange{netip.MustParsePrefix(text[0]), text[1]})
	}
	return ranges
}

// NotPublic tells why an address is not a public one, empty when it is. An IPv4 address in an IPv6 one (mapped,
// compatible, NAT64, 6to4) is what it is by itself: packets to such an address may come out there.
func NotPublic(address netip.Addr) string {
	address = address.WithZone("")
	if !address.IsValid() {
		return "no address"
	}
	if inner, what, ok := embedded(address); ok {
		if why := NotPublic(inner); why != "" {
			return why + " in " + what
		}
		if what == sixToFourAddress || what == compatibleAddress {
			// Nobody uses these any more, and a relay decides where such a packet comes out.
			return what
		}
		return ""
	}
	for _, r := range refused {
		if r.prefix.Contains(address) {
			return r.name
		}
	}
	if address.Is6() && !globalUnicast.Contains(address) {
		return "a reserved address"
	}
	return ""
}

// embedded is the IPv4 address that an IPv6 one carries, with what such an address is called.
func embedded(address netip.Addr) (inner netip.Addr, what string, ok bool) {
	if !address.Is6() {
		return netip.Addr{}, "", false
	}
	b := address.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case address.Is4In6():
		return last, "a mapped address", true
	case nat64.Contains(address):
		return last, "a NAT64 address", true
	case sixToFour.Contains(address):
		return netip.AddrFrom4([4]byte(b[2:6])), sixToFourAddress, true
	case compatible.Contains(address) && last != netip.AddrFrom4([4]byte{0, 0, 0, 0}) && last != netip.AddrFrom4([4]byte{0, 0, 0, 1}):
		return last, compatibleAddress, true
	}
	return netip.Addr{}, "", false
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)
