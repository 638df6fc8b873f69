package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"timberline/edge/auth"
	"timberline/events"
)

var tokenCommand = &command{
	name:    "token",
	summary: "make a token that a device logs in with",
	about: `
The token is a JWT, signed with the key in the server's data folder: whoever has it
speaks for the user until it expires or is revoked. Hand it to the device over a safe way.`,
	example: "timberline token --user alice --device phone --ttl 24h",
	run: func(_ context.Context, c *call) error {
		data := c.flags.String("data", defaultData, "the server's data `folder`, or that of its --keys")
		user := c.flags.String("user", "", "`name` of the user: 1 to 64 of A-Z a-z 0-9 _ . - (required)")
		device := c.flags.String("device", "", "`name` of the device, of the same form (required)")
		ttl := c.flags.Duration("ttl", 24*time.Hour, "how long it is valid")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0); err != nil {
			return err
		}
		id := fresh(auth.Identity{User: events.User(*user), Device: events.Device(*device)}, *ttl)
		if err := checkIdentity(id, "user"); err != nil {
			return err
		}
		if *ttl <= 0 {
			return wrong("ttl", "is %v, want more than 0", *ttl)
		}
		return printToken(c, *data, id, *asJSON)
	},
}

// checkIdentity finds what is wrong with names. userFlag is the flag that the
// user's came from.
func checkIdentity(id auth.Identity, userFlag string) error {
	if id.User == "" {
		return wrong(userFlag, "is missing, want the name of a user")
	}
	if err := id.User.Validate(); err != nil {
		return wrong(userFlag, "is %q: %v", id.User, err)
	}
	if id.Device == "" {
		return wrong("device", "is missing, want the name of a device")
	}
	if err := id.Device.Validate(); err != nil {
		return wrong("device", "is %q: %v", id.Device, err)
	}
	return nil
}

func printToken(c *call, data string, id auth.Identity, asJSON bool) error {
	key, err := signingKey(data)
	if err != nil {
		return err
	}
	token, err := auth.Sign(key, id)
	if err != nil {
		return err
	}
	if !asJSON {
		return c.print("%s\n", token)
	}
	return c.printJSON(struct {
		Token   string        `json:"token"`
		ID      string        `json:"id"`
		User    events.User   `json:"user"`
		Device  events.Device `json:"device"`
		Expires time.Time     `json:"expires"`
	}{token, id.ID, id.User, id.Device, id.Expires.Truncate(time.Second).UTC()})
}

// fresh returns an identity whose token is to be made now.
func fresh(id auth.Identity, life time.Duration) auth.Identity {
	id.ID, id.Issued = rand.Text(), time.Now()
	id.Expires = id.Issued.Add(life)
	return id
}

// signingKey reads the current key of a data folder.
func signingKey(data string) (ed25519.PrivateKey, error) {
	key, err := auth.LoadKey(keyPath(data))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no key in %s: start a server there first, or name its folder, or that of its --keys, with --data (%w)", data, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("only the owner of %s can make tokens: ask them for one, or name another folder with --data (%w)", data, err)
	}
	return key, err
}
