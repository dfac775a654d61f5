package engine

import (
	"net/netip"
	"testing"
)

func TestFreeSubnet(t *testing.T) {
	prefixes := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, test := range []struct {
		name, pool string
		taken      []netip.Prefix
		want       string // empty: none is free
	}{
		{"nothing taken", "10.201.0.0/16", nil, "10.201.0.0/24"},
		{"the first taken", "10.201.0.0/16", prefixes("10.201.0.0/24"), "10.201.1.0/24"},
		{"a gap is used", "10.201.0.0/16", prefixes("10.201.0.0/24", "10.201.2.0/24"), "10.201.1.0/24"},
		{"part of one taken", "10.201.0.0/16", prefixes("10.201.0.128/25"), "10.201.1.0/24"},
		{"a larger range taken", "10.201.0.0/16", prefixes("10.201.0.0/20"), "10.201.16.0/24"},
		{"elsewhere", "10.201.0.0/16", prefixes("172.17.0.0/16", "fd00::/64"), "10.201.0.0/24"},
		{"all taken", "10.201.0.0/16", prefixes("10.0.0.0/8"), ""},
		{"the last one", "10.201.0.0/23", prefixes("10.201.0.0/24"), "10.201.1.0/24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := freeSubnet(netip.MustParsePrefix(test.pool), 24, test.taken)
			if test.want == "" {
				if err == nil {
					t.Fatalf("got %s, want an error", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
