package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"timberline/client"
	"timberline/edge/auth"
	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A deviceConfig is what the commands can be told that log in as a device.
type deviceConfig struct {
	server, serverKey, as, device, token, data, codec string
	plain                                             bool
}

// define adds the fields to the flags of a command.
func (d *deviceConfig) define(c *call) {
	c.flags.StringVar(&d.server, "server", defaultServer, "`address` (host:port) of the server")
	c.flags.StringVar(&d.serverKey, "server-key", "", "the server's public `key`, as it prints it; default: that of the server in --data")
	c.flags.BoolVar(&d.plain, "plain", false, "talk to a socket in plain mode: nothing is encrypted")
	c.flags.StringVar(&d.as, "as", "", "`name` of the user to speak for; the token is made with the key in --data")
	c.flags.StringVar(&d.token, "token", "", "`JWT` to log in with, instead of --as")
	c.flags.StringVar(&d.data, "data", defaultData, "the server's data `folder`, or that of its --keys")
	c.flags.StringVar(&d.codec, "codec", "protobuf", "`encoding` of the packets: protobuf or json")
}

// options returns a client's options, and who it speaks for. A device named
// fallback is used where none was named.
func (d *deviceConfig) options(fallback string) (client.Options, auth.Identity, error) {
	var o client.Options
	if err := checkAddress(d.server); err != nil {
		return o, auth.Identity{}, wrong("server", "is %q: %v", d.server, err)
	}
	switch d.codec {
	case "protobuf":
		o.Codec = wire.Proto
	case "json":
		o.Codec = wire.JSON
	default:
		return o, auth.Identity{}, wrong("codec", "is %q, want protobuf or json", d.codec)
	}
	if d.token != "" {
		id, err := d.given()
		o.Token = func(context.Context) (string, error) { return d.token, nil }
		return o, id, errors.Join(err, d.pin(&o))
	}
	if d.as == "" {
		return o, auth.Identity{}, wrong("as", "is missing, want the name of a user (or --token)")
	}
	id := auth.Identity{User: events.User(d.as), Device: events.Device(d.device)}
	if id.Device == "" {
		id.Device = events.Device(fallback)
	}
	if err := checkIdentity(id, "as"); err != nil {
		return o, id, err
	}
	_, err := signingKey(d.data)
	if err == nil {
		err = d.pin(&o)
	}
	o.Token = func(context.Context) (string, error) {
		key, err := signingKey(d.data) // it may be another one by now
		if err != nil {
			return "", err
		}
		return auth.Sign(key, fresh(id, tokenLife))
	}
	return o, id, err
}

// pin sets the server's key, if packets are to be sealed.
func (d *deviceConfig) pin(o *client.Options) error {
	o.Plain, o.ServerKey = d.plain, d.serverKey
	switch {
	case d.plain && d.serverKey != "":
		return wrong("plain", "is given with --server-key: leave one of them away")
	case d.serverKey != "":
		if _, err := sealed.ParseKey(d.serverKey); err != nil {
			return wrong("server-key", "is of no use: %v", err)
		}
	case !d.plain:
		key, err := auth.LoadServerKey(serverKeyPath(d.data))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no key of a server in %s: name it with --server-key, or its folder with --data (%w)", d.data, err)
		}
		if err != nil {
			return err
		}
		o.ServerKey = sealed.NewServerKey(key).Public.String()
	}
	return nil
}

// tokenLife is how long the tokens are valid that a command makes for itself. It
// makes a new one for each login.
const tokenLife = 24 * time.Hour

// given returns who a token speaks for that was given.
func (d *deviceConfig) given() (auth.Identity, error) {
	id, err := auth.Peek(d.token)
	switch {
	case err != nil:
		return id, wrong("token", "is of no use: %v", err)
	case d.as != "" && events.User(d.as) != id.User:
		return id, wrong("as", "is %s, but the token is %s's: leave one of them away", d.as, id.User)
	case d.device != "" && events.Device(d.device) != id.Device:
		return id, wrong("device", "is %s, but the token is for %s: leave one of them away", d.device, id.Device)
	}
	return id, nil
}

// checkPeer finds what is wrong with the name of whom to write to.
func checkPeer(to string) error {
	if to == "" {
		return wrong("to", "is missing, want the name of a user")
	}
	if err := events.User(to).Validate(); err != nil {
		return wrong("to", "is %q: %v", to, err)
	}
	return nil
}

// passing returns the name of a device for one run of a command, so that runs do
// not replace each other's sessions.
func passing(command string) string {
	return command + "-" + strings.ToLower(rand.Text()[:6])
}

// openOutbox opens the file that keeps a device's outbox and cursor.
func (d *deviceConfig) openOutbox(folder string, id auth.Identity) (*client.File, error) {
	if folder == "" {
		var err error
		if folder, err = d.outboxes(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the outbox: %w; choose another with --state", err)
	}
	name := fileName(string(id.User)) + "," + fileName(string(id.Device)) + ".outbox"
	return client.OpenFile(filepath.Join(folder, name), client.FileOptions{Sync: true})
}

// outboxes returns the folder of outboxes: in the data folder, where tokens come
// from it, else in the user's own.
func (d *deviceConfig) outboxes() (string, error) {
	if d.token == "" {
		return devicesPath(d.data), nil
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("folder of the outbox: %w; choose one with --state", err)
	}
	return filepath.Join(config, "timberline", fileName(d.server)), nil
}

// fileName returns a name under which a file can be kept, different for different
// names even where the file system takes "A" for "a".
func fileName(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			b.WriteByte('^')
			b.WriteRune(r + 'a' - 'A')
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("_.-", r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "%%%02x", r)
		}
	}
	return b.String()
}

// explain describes an error of a client's connection for somebody at a terminal.
func explain(cl *client.Client, err error, server string) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return late(cl, server)
	case !errors.Is(err, client.ErrDenied):
		return err
	}
	text := strings.TrimPrefix(err.Error(), client.ErrClosed.Error()+": ")
	switch {
	case says(err, wire.ReasonBadToken):
		text += fmt.Sprintf(" (is %s the server whose key signed the token?)", server)
	case says(err, wire.ReasonNotAllowed):
		text += ": leave out --plain"
	}
	return errors.New(text)
}

// late says why there was no connection in time.
func late(cl *client.Client, server string) error {
	why := cl.Trouble()
	if why == nil {
		why = fmt.Errorf("no answer from %s", server)
	}
	return fmt.Errorf("%w: is the server running there, in this mode (--plain or not), and has it the key of --data or --server-key?", why)
}

// says reports whether a server has given a reason for its refusal.
func says(err error, r wire.Reason) bool { return strings.Contains(err.Error(), ": "+r.String()) }
