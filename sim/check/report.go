package check

import (
	"errors"
	"fmt"
)

// A Kind is the name of a promise broken; see the package's documentation.
type Kind string

// The kinds.
const (
	Lost       Kind = "lost"
	Doubled    Kind = "doubled"
	OutOfOrder Kind = "out_of_order"
	Gap        Kind = "gap"
	Changed    Kind = "changed"
	Foreign    Kind = "foreign"
	Refused    Kind = "refused"
	Acausal    Kind = "acausal"
	Ahead      Kind = "ahead"
	Behind     Kind = "behind"
	Inexact    Kind = "inexact"
	Strangers  Kind = "strangers"
	Unbounded  Kind = "unbounded"
)

// A Violation is one promise broken once.
type Violation struct {
	Kind Kind
	Text string // what happened, for people
}

// String returns kind and text.
func (v Violation) String() string { return string(v.Kind) + ": " + v.Text }

// maxViolations bounds those of one kind that a report tells in words.
const maxViolations = 10

// A Report is what the checker found.
type Report struct {
	Sent    int // messages that the SDK took
	Acked   int // of them, durable
	Refused int // of them, never to be stored
	Unknown int // of them, with a fate that nobody will tell
	// Delivered counts the distinct pairs of a message and a user other than its
	// sender in whose timeline it stands.
	Delivered int

	// Broken counts the violations of each kind: for lost, pairs of a message
	// and a timeline; for out_of_order, pairs of messages in a timeline.
	Broken map[Kind]int
	// Violations tells the first few of each kind.
	Violations []Violation
}

// OK reports whether nothing is broken.
func (r *Report) OK() bool { return len(r.Broken) == 0 }

// Err returns nil if nothing is broken, and otherwise an error that tells how
// much, and the first of each kind.
func (r *Report) Err() error {
	if r.OK() {
		return nil
	}
	errs := []error{errors.New("promises are broken")}
	for _, v := range r.Violations {
		errs = append(errs, errors.New(v.String()))
	}
	return errors.Join(errs...)
}

// add counts n violations of a kind and tells of them.
func (r *Report) add(n int, v Violation) {
	if n == 0 {
		return
	}
	if r.Broken == nil {
		r.Broken = make(map[Kind]int)
	}
	r.Broken[v.Kind] += n
	told := 0
	for _, old := range r.Violations {
		if old.Kind == v.Kind {
			told++
		}
	}
	if told < maxViolations {
		r.Violations = append(r.Violations, v)
	}
}

// violated keeps what can be seen while recording. The caller holds mu.
func (h *History) violated(k Kind, format string, args ...any) {
	h.found = append(h.found, Violation{k, fmt.Sprintf(format, args...)})
}
