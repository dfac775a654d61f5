package host

import (
	"slices"
	"testing"
)

func TestMissing(t *testing.T) {
	wanted := []tool{{"dockerd", "docker.io"}, {"docker", "docker.io"}, {"runc", "runc"}}
	for _, test := range []struct {
		name string
		have []string
		want []string
	}{
		{"nothing there", nil, []string{"docker.io", "runc"}},
		{"all there", []string{"dockerd", "docker", "runc"}, nil},
		{"one there", []string{"runc"}, []string{"docker.io"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := missing(wanted, func(c string) bool { return slices.Contains(test.have, c) })
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
