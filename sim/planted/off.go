//go:build !plantedbugs

package planted

// Is reports whether a bug is chosen: never.
func Is(Bug) bool { return false }
