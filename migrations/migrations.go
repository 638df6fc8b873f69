package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"timberline/events"
)

// A Number is the number of a step, counting from 1.
type Number uint32

// A Step is one change of a store.
type Step struct {
	Number  Number
	Name    string
	Changes string // what it changes, for people
	Costs   string // time, money, and what has to stand still meanwhile
	// Up makes the change durable. It may be made already, wholly or in part, and
	// somebody else may be making it now.
	Up func(context.Context) error
	// Stands reports whether the change still stands where others can undo it, as with
	// tables; nil: the record of it is enough.
	Stands func(context.Context) (bool, error)
}

// A Store is what an engine makes of itself for its steps to be applied.
type Store interface {
	// Steps returns the steps that this program knows, in the order of their numbers,
	// without gaps.
	Steps() []Step
	// Applied returns the records of the steps that were applied, in the order of their
	// numbers: none if there is no store yet.
	Applied(ctx context.Context) ([]Record, error)
	// Record makes durable that a step was applied. Of several records of a step the
	// first stands, and the others are no error.
	Record(ctx context.Context, r Record) error
}

// A State is a step, and what became of it.
type State struct {
	Step
	Applied bool
	Record  Record // if it was applied
	Known   bool   // by this program; of another there is only the record
	Stands  bool   // it is as it was applied
}

// Status returns what became of each step, in the order of their numbers.
func Status(ctx context.Context, s Store) ([]State, error) {
	applied, err := s.Applied(ctx)
	if err != nil {
		return nil, fmt.Errorf("steps that were applied: %w", err)
	}
	steps := s.Steps()
	all := make([]State, len(steps))
	for i, step := range steps {
		all[i] = State{Step: step, Known: true}
	}
	for _, r := range applied {
		if int(r.Number) > len(steps) {
			all = append(all, State{Step: Step{Number: r.Number, Name: r.Name}, Applied: true, Record: r, Stands: true})
			continue
		}
		st := &all[r.Number-1]
		st.Applied, st.Record, st.Stands = true, r, true
		if look := st.Step.Stands; look != nil {
			if st.Stands, err = look(ctx); err != nil {
				return nil, fmt.Errorf("step %d, %s: %w", st.Number, st.Name, err)
			}
		}
	}
	return all, nil
}

// Plan returns the steps that are pending: not applied, or undone since. The error wraps
// events.ErrFormat if the store has a step that this program does not know.
func Plan(ctx context.Context, s Store) (pending []Step, err error) {
	all, err := Status(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, st := range all {
		switch {
		case !st.Known:
			return nil, unknown(st.Record, len(s.Steps()))
		case !st.Applied, !st.Stands:
			pending = append(pending, st.Step)
		}
	}
	return pending, nil
}

func unknown(r Record, known int) error {
	return fmt.Errorf("%w: it has step %d (%s), applied by %s; this program knows %d steps", events.ErrFormat, r.Number, r.Name, r.Program, known)
}

// Up applies the steps that are pending, in order, and records each. told, if it is not
// nil, is called before each step and after it. It may be called again, and from several
// places at a time.
func Up(ctx context.Context, s Store, now func() time.Time, told func(step Step, done bool)) error {
	pending, err := Plan(ctx, s)
	if err != nil {
		return err
	}
	for _, step := range pending {
		if told != nil {
			told(step, false)
		}
		if err := step.Up(ctx); err != nil {
			return fmt.Errorf("step %d, %s: %w", step.Number, step.Name, err)
		}
		if err := s.Record(ctx, Record{Number: step.Number, Name: step.Name, Applied: now(), Program: program()}); err != nil {
			return fmt.Errorf("record step %d, %s: %w", step.Number, step.Name, err)
		}
		if told != nil {
			told(step, true)
		}
	}
	return nil
}

// ErrPending says that a store has to be brought up to date before it can be used.
var ErrPending = errors.New("run `timberline migrate up` on this --store first")

// Check refuses a store that is not what this program works with: the error wraps
// events.ErrFormat or ErrPending. It goes by the records alone.
func Check(ctx context.Context, s Store) error {
	applied, err := s.Applied(ctx)
	if err != nil {
		return fmt.Errorf("steps that were applied: %w", err)
	}
	steps := s.Steps()
	have := make(map[Number]bool)
	for _, r := range applied {
		if int(r.Number) > len(steps) {
			return unknown(r, len(steps))
		}
		have[r.Number] = true
	}
	for _, step := range steps {
		if !have[step.Number] {
			return fmt.Errorf("step %d (%s) was not applied: %w", step.Number, step.Name, ErrPending)
		}
	}
	return nil
}
