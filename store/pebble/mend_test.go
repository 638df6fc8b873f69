package pebble

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/projections"
)

// Of a table in which timelines are damaged, and the log is not, the rest can be used when the
// timelines are emptied.
func TestDamageToTimelinesEndsWithThem(t *testing.T) {
	mem := vfs.NewMem()
	s := openMem(t, Options{FS: mem})
	appendTo(t, s, 1, 60)
	var items []projections.Stored
	for i := range events.Seq(200) {
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: i + 1, Data: fmt.Appendf(nil, "item %d %0300d", i, i*i*i)})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
		t.Fatal(err)
	}
	names, err := s.tables()
	if err != nil || len(names) != 1 {
		t.Fatalf("tables %v, %v", names, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	x := &specimen{t, mem}
	size := 8 * len(x.read(names[0]))
	mended, lost := 0, 0
	for bit := 0; bit < size; bit += size/101 + 1 {
		x := x.clone()
		x.flip(names[0], bit)
		n, err := x.mend()
		switch {
		case errors.Is(err, events.ErrCorrupt):
			lost++ // the log, or what the store is
		case err != nil || n != 60:
			t.Errorf("bit %d: %d records, %v", bit, n, err)
		default:
			mended++
		}
	}
	if mended < 40 || lost < 5 {
		t.Errorf("%d flips were mended, and of %d the log is lost", mended, lost)
	}
}

// mend reads the log, and if it can be read empties the timelines. Then everything can.
func (x *specimen) mend() (n int, err error) {
	fatal := make(chan error, 1000)
	s, err := Open("data", Options{FS: x.fs, OnFatal: func(err error) { fatal <- err }})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if _, err := s.ReadLog(x.t.Context(), "j:1", 1, 1<<30, events.Strong); err != nil {
		return 0, err
	}
	if err := s.EmptyTimelines(x.t.Context()); err != nil {
		return 0, err
	}
	if err := s.Rewrite(x.t.Context()); err != nil {
		return 0, err
	}
	if err := s.db.Compact(x.t.Context(), []byte{0}, []byte{255}, false); err != nil {
		return 0, fmt.Errorf("compact: %v", err)
	}
	var damage error
	if _, err := s.Scrub(x.t.Context(), func(file string, err error) { damage = fmt.Errorf("%s: %v", file, err) }); err != nil || damage != nil {
		return 0, errors.Join(err, damage)
	}
	if len(fatal) > 0 {
		return 0, fmt.Errorf("the process ends: %v", <-fatal)
	}
	recs, err := s.ReadLog(x.t.Context(), "j:1", 1, 1<<30, events.Strong)
	return len(recs), err
}
