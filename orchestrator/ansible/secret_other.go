//go:build !linux

package ansible

import (
	"errors"
	"os"
)

// secretFile needs files in memory and /proc, which only Linux has.
func secretFile(string) (*os.File, error) {
	return nil, errors.ErrUnsupported
}
