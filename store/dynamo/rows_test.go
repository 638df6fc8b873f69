package dynamo

import (
	"errors"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
	"timberline/projections"
)

// anyItem returns an item with attributes of those names and texts, each of the type that
// three bits say, or none.
func anyItem(kinds uint16, names, texts []string) item {
	i := make(item)
	for at, name := range names {
		switch kinds >> (3 * at) & 7 {
		case 1:
			i[name] = &types.AttributeValueMemberN{Value: texts[at]}
		case 2:
			i[name] = &types.AttributeValueMemberS{Value: texts[at]}
		case 3:
			i[name] = &types.AttributeValueMemberB{Value: []byte(texts[at])}
		case 4:
			i[name] = &types.AttributeValueMemberNULL{Value: true}
		case 5:
			i[name] = nil
		}
	}
	return i
}

// FuzzRowItem reads whatever an item of the table of rows may be: attributes of any type, or
// none. It is damage, or what a row is written as.
func FuzzRowItem(f *testing.F) {
	f.Add(uint16(0o0321), "days.1/ann", "2026-01-01", "9", []byte("data"))
	f.Add(uint16(0), "s", "k", "1", []byte(nil))
	f.Add(uint16(0o0221), "s", "k", "-1", []byte("x"))
	f.Fuzz(func(t *testing.T, kinds uint16, space, key, n string, data []byte) {
		i := anyItem(kinds, []string{checkpointAttribute, rowsTable.partition.name, rowsTable.sort.name, rowsTable.value}, []string{n, space, key, string(data)})
		row, err := decodeRow(i)
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		if want := (projections.Row{Space: space, Key: key, Checkpoint: row.Checkpoint, Data: data}); len(data) > 0 && !reflect.DeepEqual(row, want) {
			t.Fatalf("%+v was read as %+v", want, row)
		}
		if again, err := decodeRow(rowItem(row)); err != nil || !reflect.DeepEqual(again, row) && len(data) > 0 {
			t.Fatalf("%+v was written and read as %+v, %v", row, again, err)
		}
	})
}
