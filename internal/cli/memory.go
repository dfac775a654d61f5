package cli

import (
	"os"
	"runtime/debug"
)

// How much garbage there may be beside what is in use, percent. Most commands are over
// before it pays to clear up; a server goes at Go's own pace.
const (
	rarely  = 400
	usually = 100
)

// clearUp sets it, unless GOGC says what is wanted.
func clearUp(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
