package dynamo

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"timberline/events"
	"timberline/events/fields"
)

// FuzzLease reads whatever an item of the table of leases may be. It is damage, or a lease
// that is written and read as it was.
func FuzzLease(f *testing.F) {
	f.Add(uint16(0o21222), "projector", "3", "host-1", "7", "at")
	f.Add(uint16(0o22222), "relay", "shardId-1", "", "-1", "")
	f.Fuzz(func(t *testing.T, kinds uint16, kind, name, owner, counter, place string) {
		names := []string{leasesTable.partition.name, leasesTable.sort.name, ownerAttribute, counterAttribute, placeAttribute}
		l, err := decodeLease(anyItem(kinds, names, []string{kind, name, owner, counter, place}))
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		if again, err := decodeLease(leaseItem(l)); err != nil || again != l {
			t.Fatalf("%+v was written and read as %+v, %v", l, again, err)
		}
	})
}

// FuzzChange reads whatever a stream may have as the image of a timeline's item. What is no
// item's place is nobody's.
func FuzzChange(f *testing.F) {
	f.Add("ann", "12", []byte("data"))
	f.Add("1/ann", "18446744073709551615", []byte("data"))
	f.Add("01/ann", "-1", []byte(nil))
	f.Fuzz(func(t *testing.T, partition, last string, data []byte) {
		c := changeOf(&types.StreamRecord{NewImage: map[string]types.AttributeValue{
			timelinesTable.partition.name: &types.AttributeValueMemberS{Value: partition},
			timelinesTable.sort.name:      &types.AttributeValueMemberN{Value: last},
			timelinesTable.value:          &types.AttributeValueMemberB{Value: data},
		}})
		if _, ok := timelineOf(partition); ok && timelinePartition(c.Timeline) != partition {
			t.Fatalf("%q is taken for the timeline %v", partition, c.Timeline)
		}
		if n, err := strconv.ParseUint(last, 10, 64); err == nil && c.Last != events.Seq(n) {
			t.Fatalf("%q is taken for %d", last, c.Last)
		}
		if !bytes.Equal(c.Data, data) {
			t.Fatalf("%q is read as %q", data, c.Data)
		}
	})
}

// Whatever stands as a description of the store: what is read is written again as it was.
func FuzzDescription(f *testing.F) {
	f.Add(fields.Append(nil, &meta{format: DataFormat, id: events.StoreID{1}, shards: 8}))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := decodeMeta(fields.Seal(1, metaSeal, anyFields(data)))
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) && !errors.Is(err, events.ErrFormat) {
				t.Fatalf("%v, want ErrCorrupt or ErrFormat", err)
			}
			return
		}
		if again, err := decodeMeta(fields.Seal(1, metaSeal, &first)); err != nil || again != first {
			t.Fatalf("%+v was written and read as %+v, %v", first, again, err)
		}
	})
}

// anyFields are encoded fields, whatever they are.
type anyFields []byte

func (b anyFields) Fields(v fields.Visitor) { v.Unknown(b) }
