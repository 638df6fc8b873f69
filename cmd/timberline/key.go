package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"timberline/edge/auth"
	"timberline/wire/sealed"
)

var keyCommand = &command{
	name:    "key",
	args:    "list | rotate server|token | retire server|token",
	summary: "list a server's keys, make new ones, retire old ones",
	about: `
A server has two keys: the server key, by which clients know it, and the token key,
which signs tokens. "rotate" makes a new one; the one before becomes the old key,
which is accepted until "retire" removes it. So rotate, give clients the new server
key (or let the old tokens expire), then retire. Sessions that live go on. A server
that runs on the folder has taken the change up when the command ends; edges that share
it by --keys do so within 2 seconds.`,
	example: "timberline key rotate server --data ./timberline-data",
	run: func(ctx context.Context, c *call) error {
		data := c.flags.String("data", defaultData, "the server's data `folder`, or that of its --keys")
		asJSON := c.flags.Bool("json", false, "print JSON, a line for each key")
		words, err := c.parseWords(2)
		if err != nil {
			return err
		}
		k := keyChange{c: c, data: *data, json: *asJSON}
		return k.do(ctx, words)
	},
}

// do does what words say.
func (k *keyChange) do(ctx context.Context, words []string) error {
	all := strings.Join(words, " ")
	if all == "list" {
		return k.list()
	}
	action, name, _ := strings.Cut(all, " ")
	change, known := map[string]func(context.Context, *keyUse) error{"rotate": k.rotate, "retire": k.retire}[action]
	if !known {
		return &usageError{fmt.Errorf("%q is no action: want list, rotate or retire", all)}
	}
	if keyUses[name] == nil {
		return &usageError{fmt.Errorf("%q is no action: want %s server or %s token", all, action, action)}
	}
	return change(ctx, keyUses[name])
}

// A keyUse is what one of the server's keys is for.
type keyUse struct {
	name   string
	path   func(data string) string
	public func(path string) (string, error) // the key's public half, as others know it
	rotate func(path string) error
}

var keyUses = map[string]*keyUse{
	serverKeys: {serverKeys, serverKeyPath, serverPublic, auth.RotateServerKey},
	tokenKeys:  {tokenKeys, keyPath, tokenPublic, auth.RotateKey},
}

func serverPublic(path string) (string, error) {
	key, err := auth.LoadServerKey(path)
	if err != nil {
		return "", err
	}
	return sealed.NewServerKey(key).Public.String(), nil
}

func tokenPublic(path string) (string, error) {
	key, err := auth.LoadKey(path)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)), nil
}

// A keyChange is a run of the command.
type keyChange struct {
	c    *call
	data string
	json bool
}

// A keyInfo describes a key.
type keyInfo struct {
	Use   string    `json:"use"`
	State string    `json:"state"`
	Key   string    `json:"key"`
	Made  time.Time `json:"made"`
	File  string    `json:"file"`
}

// The states of keys.
const (
	keyCurrent = "current"
	keyOld     = "old"
	keyRetired = "retired"
)

func (k *keyChange) list() error {
	t := tabwriter.NewWriter(k.c.stdout, 0, 0, 2, ' ', 0)
	for _, name := range []string{serverKeys, tokenKeys} {
		use := keyUses[name]
		infos, err := k.both(use)
		if err != nil {
			return err
		}
		for _, i := range infos {
			if !k.json {
				fmt.Fprintf(t, "%s\t%s\t%s\tmade %s\t%s\n", i.Use, i.State, i.Key, i.Made.Format(time.RFC3339), i.File)
			} else if err := k.c.printJSON(i); err != nil {
				return err
			}
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// both returns the current key, and the old one if there is one.
func (k *keyChange) both(use *keyUse) ([]keyInfo, error) {
	now, err := k.info(use, keyCurrent, use.path(k.data))
	if err != nil {
		return nil, k.explain(use, err)
	}
	old, err := k.info(use, keyOld, auth.OldPath(use.path(k.data)))
	if errors.Is(err, fs.ErrNotExist) {
		return []keyInfo{now}, nil
	}
	return []keyInfo{now, old}, err
}

func (k *keyChange) info(use *keyUse, state, path string) (i keyInfo, err error) {
	i = keyInfo{Use: use.name, State: state, File: path}
	if i.Key, err = use.public(path); err != nil {
		return i, err
	}
	file, err := os.Stat(path)
	if err != nil {
		return i, err
	}
	i.Made = file.ModTime().UTC().Truncate(time.Second)
	return i, nil
}

func (k *keyChange) rotate(ctx context.Context, use *keyUse) error {
	if err := use.rotate(use.path(k.data)); err != nil {
		return k.explain(use, err)
	}
	infos, err := k.both(use)
	if err != nil {
		return err
	}
	told, err := tellServer(ctx, k.data, use.name)
	if err != nil {
		return fmt.Errorf("the new key stands in %s, but is not used yet: %w", use.path(k.data), err)
	}
	if k.json {
		return k.printJSON(told, infos...)
	}
	for _, i := range infos {
		if err := k.c.print("%s key, %s: %s\n", i.Use, i.State, i.Key); err != nil {
			return err
		}
	}
	return k.c.print("the old one is accepted until you retire it: %s key retire %s%s\n%s",
		program(), use.name, dataFlag(k.data), k.hint(told))
}

func (k *keyChange) retire(ctx context.Context, use *keyUse) error {
	old, _ := k.info(use, keyRetired, auth.OldPath(use.path(k.data))) // it goes, whatever it is
	if err := auth.RetireKey(use.path(k.data)); err != nil {
		return k.explain(use, err)
	}
	told, err := tellServer(ctx, k.data, use.name)
	if err != nil {
		return fmt.Errorf("the old key is removed, but accepted still: %w", err)
	}
	if k.json {
		return k.printJSON(told, old)
	}
	return k.c.print("%s key, %s: %s\n%s", use.name, old.State, old.Key, k.hint(told))
}

// printJSON prints keys, and whether a server has taken the change up.
func (k *keyChange) printJSON(told bool, infos ...keyInfo) error {
	for _, i := range infos {
		err := k.c.printJSON(struct {
			keyInfo
			InForce bool `json:"in_force"`
		}{i, told})
		if err != nil {
			return err
		}
	}
	return nil
}

// hint says from when on a change counts, if not at once.
func (k *keyChange) hint(told bool) string {
	if told {
		return ""
	}
	return noServerHint(k.data)
}

// noServerHint tells of a folder that no server has as its own. It may be one that edges
// share: they look at its files by themselves.
func noServerHint(data string) string {
	return fmt.Sprintf("no server runs on %s: those that share it by --keys and --revocations take it up within 2 s, others at their next start\n", data)
}

// explain says what to do about an error.
func (k *keyChange) explain(use *keyUse, err error) error {
	switch {
	case errors.Is(err, auth.ErrOldKey):
		return fmt.Errorf("%w: when nobody needs it any more, retire it first with %s key retire %s%s", err, program(), use.name, dataFlag(k.data))
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no key in %s: start a server there first, or name its folder, or that of its --keys, with --data (%w)", k.data, err)
	case errors.Is(err, auth.ErrNoOldKey):
		return err
	}
	return folderError(k.data, err)
}
