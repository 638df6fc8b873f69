package migrations

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"timberline/events"
	"timberline/events/fields"
)

// A Record says that a step was applied.
type Record struct {
	Number  Number
	Name    string
	Applied time.Time // to the millisecond; zero: before there were records
	Program string    // the version of the program that applied it
}

// RecordVersion is the format written. Every later version reads it.
const RecordVersion = 1

// storedRecord is a Record as stored. Its number is in its place.
type storedRecord struct{ Record }

// Fields lists the stored fields.
func (r *storedRecord) Fields(v fields.Visitor) {
	fields.String(v, 1, "name", &r.Name)
	var at uint64 // milliseconds since 1970; 0: unknown
	if !r.Applied.IsZero() {
		at = uint64(max(r.Applied.UnixMilli(), 0))
	}
	if fields.Uint(v, 2, "applied", &at); int64(at) > 0 {
		r.Applied = time.UnixMilli(int64(at)).UTC()
	}
	fields.String(v, 3, "program", &r.Program)
}

// Seal encodes the record for storage.
func (r Record) Seal() []byte {
	return fields.Seal(RecordVersion, recordPlace(r.Number), &storedRecord{r})
}

// UnsealRecord decodes what Seal made of the record of that number. The error wraps
// events.ErrCorrupt or events.ErrFormat.
func UnsealRecord(n Number, sealed []byte) (Record, error) {
	r := storedRecord{Record{Number: n}}
	if err := fields.Unseal(RecordVersion, recordPlace(n), sealed, &r); err != nil {
		return Record{}, events.Unreadable(fmt.Sprintf("record of migration step %d", n), err)
	}
	return r.Record, nil
}

func recordPlace(n Number) []byte {
	return binary.BigEndian.AppendUint32([]byte("v"), uint32(n))
}

// Unrecorded adds to records those of the steps 1 to n that have none: they were applied
// before there were records.
func Unrecorded(records []Record, n Number, steps []Step) []Record {
	have := make(map[Number]bool)
	for _, r := range records {
		have[r.Number] = true
	}
	var all []Record
	for i := Number(1); i <= n; i++ {
		if have[i] {
			continue
		}
		r := Record{Number: i, Name: "unknown", Program: "an unknown version"}
		if int(i) <= len(steps) {
			r.Name = steps[i-1].Name
		}
		all = append(all, r)
	}
	all = append(all, records...)
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// program returns the version of this program.
func program() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
