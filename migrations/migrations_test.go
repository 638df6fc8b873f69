package migrations

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/events/fields"
)

// A shelf is a store whose steps put a number on it, if it is not there.
type shelf struct {
	mu      sync.Mutex
	steps   int
	on      map[Number]int // how often each was put
	records map[Number]Record
	gone    map[Number]bool // taken away since
	fail    func() error    // before each change, and after it
}

func newShelf(steps int) *shelf {
	return &shelf{steps: steps, on: make(map[Number]int), records: make(map[Number]Record), gone: make(map[Number]bool), fail: func() error { return nil }}
}

// knowing is the shelf as a program sees it that knows some steps.
type knowing struct {
	*shelf
	steps int
}

func (k knowing) Steps() (all []Step) {
	for i := range k.steps {
		n := Number(i + 1)
		all = append(all, Step{
			Number: n, Name: fmt.Sprint("put ", n), Changes: "puts it on the shelf", Costs: "nothing",
			Up:     func(context.Context) error { return k.put(n) },
			Stands: func(context.Context) (bool, error) { return k.stands(n), nil },
		})
	}
	return all
}

func (k knowing) put(n Number) error {
	if err := k.fail(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n > 1 && k.on[n-1] == 0 {
		return fmt.Errorf("%d is to be put before %d", n-1, n)
	}
	k.on[n] = 1
	delete(k.gone, n)
	return k.fail()
}

func (k knowing) stands(n Number) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.gone[n]
}

func (k knowing) Applied(context.Context) (all []Record, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for n, r := range k.records {
		r.Number = n
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Record) int { return int(a.Number) - int(b.Number) })
	return all, nil
}

func (k knowing) Record(_ context.Context, r Record) error {
	if err := k.fail(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, stands := k.records[r.Number]; !stands {
		k.records[r.Number] = r
	}
	return k.fail()
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(when time.Time) func() time.Time { return func() time.Time { return when } }

func TestStepsAreAppliedInOrderAndRecorded(t *testing.T) {
	s := knowing{newShelf(3), 3}
	var told []string
	tell := func(step Step, done bool) { told = append(told, fmt.Sprint(step.Number, done)) }
	if err := Up(t.Context(), s, at(noon), tell); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1 false", "1 true", "2 false", "2 true", "3 false", "3 true"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	told = nil
	if err := Up(t.Context(), s, at(noon.Add(time.Hour)), tell); err != nil || told != nil {
		t.Errorf("again: %v, told %v, want nothing to be done", err, told)
	}
	all, err := Status(t.Context(), s)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d states, %v", len(all), err)
	}
	for _, st := range all {
		if !st.Applied || !st.Known || !st.Stands || !st.Record.Applied.Equal(noon) || st.Record.Program == "" {
			t.Errorf("%+v: want it applied at noon by a program", st)
		}
	}
	if err := Check(t.Context(), s); err != nil {
		t.Error(err)
	}
}

func TestNewerProgramHasPendingSteps(t *testing.T) {
	s := newShelf(4)
	if err := Up(t.Context(), knowing{s, 2}, at(noon), nil); err != nil {
		t.Fatal(err)
	}
	newer := knowing{s, 4}
	pending, err := Plan(t.Context(), newer)
	if err != nil || len(pending) != 2 || pending[0].Number != 3 {
		t.Errorf("pending %v, %v; want 3 and 4", pending, err)
	}
	if err := Check(t.Context(), newer); !errors.Is(err, ErrPending) {
		t.Errorf("check: %v, want ErrPending", err)
	}
	if err := Up(t.Context(), newer, at(noon), nil); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"check": Check(t.Context(), knowing{s, 2}),
		"up":    Up(t.Context(), knowing{s, 2}, at(noon), nil),
	} {
		if !errors.Is(err, events.ErrFormat) || !strings.Contains(err.Error(), "step 3 (put 3)") {
			t.Errorf("%s of an older program: %v, want ErrFormat and the step", what, err)
		}
	}
	all, err := Status(t.Context(), knowing{s, 2})
	if err != nil || len(all) != 4 || all[3].Known || all[3].Name != "put 4" {
		t.Errorf("status of an older program: %+v, %v; want it to tell of step 4", all, err)
	}
}

func TestStepThatWasUndoneIsPending(t *testing.T) {
	s := knowing{newShelf(2), 2}
	if err := Up(t.Context(), s, at(noon), nil); err != nil {
		t.Fatal(err)
	}
	s.gone[1] = true
	pending, err := Plan(t.Context(), s)
	if err != nil || len(pending) != 1 || pending[0].Number != 1 {
		t.Fatalf("pending %v, %v; want 1", pending, err)
	}
	if err := Up(t.Context(), s, at(noon.Add(time.Hour)), nil); err != nil || s.gone[1] {
		t.Errorf("%v, gone %v", err, s.gone)
	}
	if r := s.records[1]; !r.Applied.Equal(noon) {
		t.Errorf("%+v: the first record is to stand", r)
	}
}

// Several apply the steps at a time, each fails and begins again, and what failed may have
// been done.
func TestStepsMayBeAppliedFromSeveralPlaces(t *testing.T) {
	for seed := range uint64(50) {
		s := newShelf(4)
		r := rand.New(rand.NewPCG(seed, 1))
		var mu sync.Mutex
		s.fail = func() error {
			mu.Lock()
			defer mu.Unlock()
			if r.IntN(4) == 0 {
				return errors.New("throttled")
			}
			return nil
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for Up(t.Context(), knowing{s, 4}, at(noon), nil) != nil {
				}
			})
		}
		all.Wait()
		if diff := cmp.Diff(map[Number]int{1: 1, 2: 1, 3: 1, 4: 1}, s.on); diff != "" || len(s.records) != 4 {
			t.Fatalf("seed %d: %d records, on the shelf (-want +got)\n%s", seed, len(s.records), diff)
		}
	}
}

func TestRecordsAreReadByEveryLaterVersion(t *testing.T) {
	want := Record{Number: 7, Name: "tables", Applied: noon.Add(1500 * time.Millisecond), Program: "v1.2.3"}
	const golden = "\x01o\\\")\n\x06tables\x10\xdc\xef\xd0\xf4\xb73\x1a\x06v1.2.3"
	if got := want.Seal(); string(got) != golden {
		t.Errorf("%q is written, want %q", got, golden)
	}
	got, err := UnsealRecord(7, []byte(golden))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if _, err := UnsealRecord(8, []byte(golden)); !errors.Is(err, events.ErrCorrupt) {
		t.Errorf("in the place of another: %v, want ErrCorrupt", err)
	}
	unknown := Record{Number: 1}
	if got, err := UnsealRecord(1, unknown.Seal()); err != nil || !got.Applied.IsZero() {
		t.Errorf("%+v, %v; want no time", got, err)
	}
}

func TestStepsWithoutRecordsAreTakenForApplied(t *testing.T) {
	steps := knowing{newShelf(2), 2}.Steps()
	got := Unrecorded([]Record{{Number: 2, Name: "put 2", Program: "v1"}, {Number: 4, Name: "put 4"}}, 3, steps)
	var names []string
	for _, r := range got {
		names = append(names, fmt.Sprint(r.Number, " ", r.Name))
	}
	if want := []string{"1 put 1", "2 put 2", "3 unknown", "4 put 4"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}

// FuzzStepRecord reads whatever stands as a step's record, under a checksum that is right:
// what is read is written and read again as it was.
func FuzzStepRecord(f *testing.F) {
	f.Add(uint32(1), fields.Append(nil, &storedRecord{Record{Name: "tables", Applied: time.UnixMilli(1).UTC(), Program: "v1"}}))
	f.Add(uint32(2), binary.AppendUvarint([]byte{2 << 3}, 1<<63)) // of no time
	f.Fuzz(func(t *testing.T, number uint32, data []byte) {
		n := Number(number)
		first, err := UnsealRecord(n, fields.Seal(RecordVersion, recordPlace(n), anyFields(data)))
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) && !errors.Is(err, events.ErrFormat) {
				t.Fatalf("%v, want ErrCorrupt or ErrFormat", err)
			}
			return
		}
		if again, err := UnsealRecord(n, first.Seal()); err != nil || again != first {
			t.Fatalf("%+v was written and read as %+v, %v", first, again, err)
		}
	})
}

// anyFields are encoded fields, whatever they are.
type anyFields []byte

func (b anyFields) Fields(v fields.Visitor) { v.Unknown(b) }
