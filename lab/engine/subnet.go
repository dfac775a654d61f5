package engine

import (
	"fmt"
	"net"
	"net/netip"
)

// clusterPool is where clusters get their /24 from.
var clusterPool = netip.MustParsePrefix("10.201.0.0/16")

// FreeSubnet returns the first /24 of the lab's pool that overlaps none of the
// ranges taken.
func FreeSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	return freeSubnet(clusterPool, 24, taken)
}

func freeSubnet(pool netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, error) {
	base := pool.Masked().Addr().As4()
	start := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
next:
	for i := uint32(0); i < 1<<(bits-pool.Bits()); i++ {
		a := start + i<<(32-bits)
		candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}),
			bits)
		for _, t := range taken {
			if t.Overlaps(candidate) {
				continue next
			}
		}
		return candidate, nil
	}
	return netip.Prefix{}, fmt.Errorf("no free /%d network in %s: remove a cluster first", bits, pool)
}

// HostSubnets returns the networks this machine's own interfaces are in.
func HostSubnets() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing the machine's addresses: %w", err)
	}
	var taken []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			taken = append(taken, p.Masked())
		}
	}
	return taken, nil
}
