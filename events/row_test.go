package events

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"timberline/events/fields"
)

var aRow = Row{Number: 7, Writer: [16]byte{1, 15: 9}, Edge: EdgeTag{2, 3, 4, 5}, Counter: 300, Ended: 4}

// A row as the first version wrote it.
const sealedRow = "01c4e490cb08071210010000000000000000000000000000091885888c1020ac022804"

func TestRowOfTheFirstVersionIsRead(t *testing.T) {
	sealed, err := hex.DecodeString(sealedRow)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnsealRow(7, sealed)
	if err != nil || got != aRow {
		t.Errorf("%+v, %v; want %+v", got, err, aRow)
	}
	if again := hex.EncodeToString(aRow.Seal()); again != sealedRow {
		t.Errorf("written as %s, want %s", again, sealedRow)
	}
}

func TestTrimmedRowIsReadAsItWasWritten(t *testing.T) {
	trimmed := aRow
	trimmed.Trimmed = true
	if got, err := UnsealRow(7, trimmed.Seal()); err != nil || got != trimmed {
		t.Errorf("%+v, %v; want %+v", got, err, trimmed)
	}
}

func TestRowInAWrongPlaceIsDamage(t *testing.T) {
	if r, err := UnsealRow(8, aRow.Seal()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "row of journal 8") {
		t.Errorf("%+v, %v; want ErrCorrupt that names the journal", r, err)
	}
}

// Whatever stands as a row: what is read is written again as it was, or in the one way
// that this version writes.
func FuzzRow(f *testing.F) {
	f.Add(fields.Append(nil, &storedRow{aRow}))
	trimmed := aRow
	trimmed.Trimmed = true
	f.Add(fields.Append(nil, &storedRow{trimmed}))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := UnsealRow(7, fields.Seal(RowVersion, rowPlace(7), message(data)))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "row of journal 7") {
				t.Fatalf("%v, want ErrCorrupt with the place", err)
			}
			return
		}
		first.Number = 7 // another one stands in its place, or in no place
		if again, err := UnsealRow(7, first.Seal()); err != nil || again != first {
			t.Fatalf("%+v was written and read as %+v, %v", first, again, err)
		}
	})
}

// message is bytes that are written as they are.
type message []byte

func (m message) Fields(v fields.Visitor) { v.Unknown(m) }
