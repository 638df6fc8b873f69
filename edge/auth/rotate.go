package auth

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A key is changed in two steps, and both of its files are good in between:
//
//	            path      path.old
//	            K1        -
//	rotate      K2        K1         both are accepted
//	retire      K2        -          K1 no more

// What stands in the way of a change of keys.
var (
	ErrOldKey   = errors.New("there is an old key still")                 // retire it first
	ErrNoOldKey = errors.New("there is no old key: nothing is to retire") // nothing to do
)

// OldPath returns where the key is kept that the one at path has replaced.
func OldPath(path string) string { return path + ".old" }

// WatchKeys returns what tokens are checked with that the signing key at path has
// signed, or the one before it.
func WatchKeys(path string) (*Watched[[]Key], error) {
	return watchBoth(signing, path, func(k ed25519.PrivateKey) Key { return NewEdDSAKey(k.Public().(ed25519.PublicKey)) })
}

// WatchServerKeys returns what use makes of the server key at path, and then of the
// one before it, if there is one.
func WatchServerKeys[V any](path string, use func(*ecdh.PrivateKey) V) (*Watched[[]V], error) {
	return watchBoth(static, path, use)
}

// watchBoth reads the current key first. So one that is being replaced meanwhile is
// found in the old one's place.
func watchBoth[K, V any](kd kind[K], path string, use func(K) V) (*Watched[[]V], error) {
	paths := []string{path, OldPath(path)}
	return Watch(func(files [][]byte) (values []V, err error) {
		if files[0] == nil {
			return nil, fmt.Errorf("%s: there is no file %s", kd.what, path)
		}
		for i, data := range files {
			if data == nil {
				continue
			}
			key, err := kd.parse(paths[i], data)
			if err != nil {
				return nil, err
			}
			values = append(values, use(key))
		}
		return values, nil
	}, paths...)
}

// RotateKey makes a new signing key. The present one becomes the old one. The error
// wraps ErrOldKey if there is an old one, and fs.ErrNotExist if there is no key.
func RotateKey(path string) error { return signing.rotate(path) }

// RotateServerKey makes a new static key of a server; see RotateKey.
func RotateServerKey(path string) error { return static.rotate(path) }

func (kd kind[K]) rotate(path string) error {
	data, err := kd.make()
	if err != nil {
		return err
	}
	err = alone(path, func() error {
		if err := keep(path); err != nil {
			return err
		}
		return replace(path, data)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", kd.what, err)
	}
	return nil
}

// keep gives the current key its second name, by which it is the old one. Where it
// has it already, a rotation was cut off after this step.
func keep(path string) error {
	err := os.Link(path, OldPath(path))
	if errors.Is(err, fs.ErrExist) {
		now, err := os.Stat(path)
		old, err2 := os.Stat(OldPath(path))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if !os.SameFile(now, old) {
			return ErrOldKey
		}
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(path)
}

// RetireKey removes the old one of the keys at path. The error wraps ErrNoOldKey if
// there is none.
func RetireKey(path string) error {
	return alone(path, func() error {
		err := os.Remove(OldPath(path))
		if errors.Is(err, fs.ErrNotExist) {
			return ErrNoOldKey
		}
		return errors.Join(err, syncFolder(path))
	})
}
