package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"timberline/edge/auth"
	"timberline/events"
)

var revokeCommand = &command{
	name:    "revoke",
	summary: "make tokens count no more, or list which do not",
	about: `
It adds a line to the list of revocations, which is a file: edit it to take something
back. With --before only tokens made before then are revoked: so a user goes on with
fresh ones. A server that runs on the folder knows of it when the command ends:
nobody logs in with such a token from then on, and sessions that live by one are
closed within 10 seconds. Edges that share the list by --revocations know of it 2
seconds later.`,
	example: "timberline revoke --user alice --device phone --before now",
	run: func(ctx context.Context, c *call) error {
		var v revocation
		v.define(c)
		if err := c.parse(0); err != nil {
			return err
		}
		if err := v.check(); err != nil {
			return err
		}
		if v.list {
			return v.print(ctx, c)
		}
		r, err := v.revocation(time.Now())
		if err != nil {
			return err
		}
		return v.add(ctx, c, r)
	},
}

// A revocation is what the command can be told.
type revocation struct {
	data, file                  string
	user, device, before, token string
	list, json                  bool
}

func (v *revocation) define(c *call) {
	c.flags.StringVar(&v.data, "data", defaultData, "the server's data `folder`")
	c.flags.StringVar(&v.file, "revocations", "", "`file` of the list (default: that of the server that runs, or else revoked, in the data folder)")
	c.flags.StringVar(&v.user, "user", "", "`name` of the user whose tokens count no more")
	c.flags.StringVar(&v.device, "device", "", "only those for the user's device of this `name`")
	c.flags.StringVar(&v.before, "before", "", "only those made before this `time` (2026-01-31T12:00:00Z, or now: with those of the whole second, as tokens know no parts of one)")
	c.flags.StringVar(&v.token, "token", "", "`id` of the one token that counts no more, or the token itself")
	c.flags.BoolVar(&v.list, "list", false, "print the list")
	c.flags.BoolVar(&v.json, "json", false, "print JSON, a line for each revocation")
}

// check finds what does not go together.
func (v *revocation) check() error {
	given := 0
	for _, is := range []bool{v.user != "", v.token != "", v.list} {
		if is {
			given++
		}
	}
	switch {
	case given == 0 && (v.device != "" || v.before != ""):
		return wrong("user", "is missing, want the name of a user")
	case given != 1:
		return wrong("user", "or --token or --list: want one of them")
	case v.user == "" && v.device != "":
		return wrong("device", "is given without --user")
	case v.user == "" && v.before != "":
		return wrong("before", "is given without --user")
	}
	return nil
}

// revocation returns what is to be added. The error names the flag.
func (v *revocation) revocation(now time.Time) (r auth.Revocation, err error) {
	if v.token != "" {
		r.ID, err = tokenID(strings.TrimSpace(v.token))
		return r, err
	}
	r.User, r.Device = events.User(v.user), events.Device(v.device)
	if err := r.User.Validate(); err != nil {
		return r, wrong("user", "is %q: %v", v.user, err)
	}
	if v.device != "" {
		if err := r.Device.Validate(); err != nil {
			return r, wrong("device", "is %q: %v", v.device, err)
		}
	}
	switch v.before {
	case "":
	case "now": // tokens know whole seconds: all of this one belong to it
		r.Before = now.UTC().Truncate(time.Second).Add(time.Second)
	default:
		if r.Before, err = time.Parse(time.RFC3339, v.before); err != nil || r.Before.IsZero() {
			return r, wrong("before", "is %q, want a time such as 2026-01-31T12:00:00Z, or now", v.before)
		}
	}
	return r, nil
}

// tokenID returns the id of a token that is given by its id or by itself.
func tokenID(text string) (string, error) {
	if id, err := auth.Peek(text); err == nil {
		return id.ID, nil
	}
	if err := auth.CheckID(text); err != nil {
		return "", wrong("token", "is of no use: %v", err)
	}
	return text, nil
}

// add adds a revocation to the list and tells the server of it.
func (v *revocation) add(ctx context.Context, c *call, r auth.Revocation) error {
	path, err := v.path(ctx)
	if err != nil {
		return err
	}
	err = auth.Revoke(path, r, time.Now())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder for %s: start a server first, or name its folder with --data (%w)", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user cannot write to the list of revocations (%w)", err)
	case err != nil:
		return err
	}
	told, err := tellServer(ctx, v.data, revocations)
	if err != nil {
		return fmt.Errorf("%q stands in %s, but does not count yet: %w", r, path, err)
	}
	if v.json {
		return c.printJSON(struct {
			revocationInfo
			File    string `json:"file"`
			InForce bool   `json:"in_force"`
		}{infoOf(r), path, told})
	}
	if !told {
		return c.print("revoked: %v\n%s", r, noServerHint(v.data))
	}
	return c.print("revoked: %v\n", r)
}

// path returns where the list stands: where the server reads it, if one runs.
func (v *revocation) path(ctx context.Context) (string, error) {
	answer, err := askAdmin(ctx, http.MethodGet, v.data, "/revocations", nil, nil)
	switch {
	case errors.Is(err, errNoServer) && v.file != "":
		return v.file, nil
	case errors.Is(err, errNoServer):
		return revokedPath(v.data), nil
	case err != nil:
		return "", err
	}
	read, err := io.ReadAll(answer)
	if err := errors.Join(err, answer.Close()); err != nil {
		return "", fmt.Errorf("the server's answer ends in the middle: %w", err)
	}
	if v.file != "" && !sameFile(v.file, string(read)) {
		return "", wrong("revocations", "is %s, but the server of %s reads %s: name that one, or none", v.file, v.data, read)
	}
	return string(read), nil
}

// sameFile reports whether two paths lead to one file, which may not exist yet.
func sameFile(a, b string) bool {
	abs, err := filepath.Abs(a)
	if err == nil && abs == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, two)
}

// print prints the list.
func (v *revocation) print(ctx context.Context, c *call) error {
	path, err := v.path(ctx)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list of revocations: %w", err)
	}
	list, err := auth.ParseRevocations(data)
	if err != nil {
		return fmt.Errorf("%s, %w", path, err)
	}
	for _, r := range list {
		if v.json {
			err = c.printJSON(infoOf(r))
		} else {
			err = c.print("%v\n", r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A revocationInfo describes a revocation.
type revocationInfo struct {
	User   events.User   `json:"user,omitempty"`
	Device events.Device `json:"device,omitempty"`
	Before *time.Time    `json:"before,omitempty"`
	Token  string        `json:"token,omitempty"`
	Added  *time.Time    `json:"added,omitempty"` // if the list says so
}

func infoOf(r auth.Revocation) revocationInfo {
	i := revocationInfo{User: r.User, Device: r.Device, Token: r.ID}
	if !r.Before.IsZero() {
		i.Before = &r.Before
	}
	if !r.Added.IsZero() {
		i.Added = &r.Added
	}
	return i
}
