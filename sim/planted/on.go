//go:build plantedbugs

package planted

// chosen is the bug that is there.
var chosen Bug

// Is reports whether a bug is chosen.
func Is(b Bug) bool { return b == chosen }

// Choose chooses the bug that is there from now on, None for none. It must not be
// called while anything runs that asks for one.
func Choose(b Bug) { chosen = b }
