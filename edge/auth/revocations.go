package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"timberline/events"
)

// A Revocation says which tokens count no more: all of a user, all of a user's
// device, or one.
type Revocation struct {
	User   events.User
	Device events.Device // empty: all of the user
	Before time.Time     // only tokens issued before then, or nobody knows when; zero: all
	ID     string        // of one token; then all of the above is empty
	Added  time.Time     // when it came onto the list, if its line says so
}

// String returns the line by which it stands in a file, without when it was added.
func (r Revocation) String() string {
	line := "user " + string(r.User)
	switch {
	case r.ID != "":
		return "token " + r.ID
	case r.Device != "":
		line = fmt.Sprintf("device %s %s", r.User, r.Device)
	}
	if !r.Before.IsZero() {
		line += " before " + r.Before.Format(time.RFC3339Nano)
	}
	return line
}

// Validate finds what is wrong with it.
func (r Revocation) Validate() error {
	if r.ID != "" {
		if err := CheckID(r.ID); err != nil {
			return fmt.Errorf("id of the token: %w", err)
		}
		return nil
	}
	err := r.User.Validate()
	if r.Device != "" {
		err = errors.Join(err, r.Device.Validate())
	}
	return err
}

// ParseRevocations reads a list of revocations, one a line. What follows a # is a
// comment. The error names the line and says what would be right.
func ParseRevocations(data []byte) (list []Revocation, err error) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text, comment, _ := strings.Cut(string(line), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		r, err := parseRevocation(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", number, strings.Join(words, " "), err)
		}
		r.Added, _ = time.Parse(time.RFC3339, strings.TrimSpace(comment)) // as Revoke writes it
		list = append(list, r)
	}
	return list, nil
}

var errForm = errors.New(`want "user NAME", "device USER DEVICE", either with "before 2026-01-31T12:00:00Z" or without, or "token ID"`)

func parseRevocation(words []string) (r Revocation, err error) {
	if n := len(words); n > 3 && words[n-2] == "before" && words[0] != "token" {
		if r.Before, err = time.Parse(time.RFC3339, words[n-1]); err != nil || r.Before.IsZero() {
			return r, fmt.Errorf("%q is not a time, want one such as 2026-01-31T12:00:00Z", words[n-1])
		}
		words = words[:n-2]
	}
	switch {
	case len(words) == 2 && words[0] == "user":
		r.User = events.User(words[1])
	case len(words) == 3 && words[0] == "device":
		r.User, r.Device = events.User(words[1]), events.Device(words[2])
	case len(words) == 2 && words[0] == "token":
		r.ID = words[1]
	default:
		return r, errForm
	}
	return r, r.Validate()
}

// A Revocations is the list that stands in a file. It is safe for concurrent use,
// and its methods do not wait, but for Run and Reload.
type Revocations struct {
	path string
	file *Watched[*revoked]
}

// WatchRevocations reads a list. A file that does not exist is an empty one, unless
// must says that it has to be there. Run reads it again when it changes.
func WatchRevocations(path string, must bool) (*Revocations, error) {
	var generation uint64
	file, err := Watch(func(files [][]byte) (*revoked, error) {
		if files[0] == nil && must {
			return nil, fmt.Errorf("%s: there is no such file; make one, empty if nothing is revoked", path)
		}
		must = must || files[0] != nil // nothing is allowed again because a file got lost
		list, err := ParseRevocations(files[0])
		if err != nil {
			return nil, fmt.Errorf("%s, %w", path, err)
		}
		generation++
		return newRevoked(generation, list), nil
	}, path)
	if err != nil {
		return nil, err
	}
	return &Revocations{path, file}, nil
}

// Path returns where the list stands.
func (r *Revocations) Path() string { return r.path }

// Generation is another number after each change.
func (r *Revocations) Generation() uint64 { return r.file.Get().generation }

// Revoked reports whether a token counts no more.
func (r *Revocations) Revoked(id Identity) bool { return r.file.Get().revoked(id) }

// Run looks at the file every few seconds until ctx ends; see Watched.
func (r *Revocations) Run(ctx context.Context, logger *slog.Logger) error {
	return r.file.Run(ctx, logger)
}

// Reload makes Run read the file now; see Watched.
func (r *Revocations) Reload(ctx context.Context) error { return r.file.Reload(ctx) }

// A revoked is a list, by what is asked for.
type revoked struct {
	generation uint64
	names      map[name]cut
	tokens     map[string]bool // by their ids
}

// A name is of a user, or of a user's device.
type name struct {
	user   events.User
	device events.Device
}

// A cut says how many of somebody's tokens count no more: all, or those issued
// before a time.
type cut struct {
	all    bool
	before time.Time
}

func newRevoked(generation uint64, list []Revocation) *revoked {
	v := &revoked{generation, make(map[name]cut), make(map[string]bool)}
	for _, r := range list {
		if r.ID != "" {
			v.tokens[r.ID] = true
			continue
		}
		n := name{r.User, r.Device}
		c := v.names[n]
		c.all = c.all || r.Before.IsZero()
		if r.Before.After(c.before) {
			c.before = r.Before
		}
		v.names[n] = c
	}
	return v
}

func (v *revoked) revoked(id Identity) bool {
	return v.tokens[id.ID] ||
		v.names[name{user: id.User}].covers(id.Issued) || v.names[name{id.User, id.Device}].covers(id.Issued)
}

// covers reports whether a token that was issued then counts no more. Of one that
// does not say when, the zero time, nobody knows that it was later.
func (c cut) covers(issued time.Time) bool { return c.all || issued.Before(c.before) }
