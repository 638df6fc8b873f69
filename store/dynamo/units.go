package dynamo

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
	"timberline/projections"
)

// What an item counts and what a call costs, as the DynamoDB Developer Guide has it
// ("DynamoDB item sizes and formats", "Read and write operations").

// MaxItemSize is what DynamoDB takes of one item, names and key included.
const MaxItemSize = 400 << 10

// WriteUnits returns what it costs to write an item of that size in bytes: a unit for
// each begun kilobyte.
func WriteUnits(itemSize int) int { return max(1, (itemSize+1023)/1024) }

// ReadUnits returns what a call costs that reads items of size bytes together, as far
// as DynamoDB looked at them: a unit for each begun 4 KB, half of that if the read may be
// stale.
func ReadUnits(size int, consistent bool) float64 {
	units := float64(max(1, (size+4095)/4096))
	if !consistent {
		units /= 2
	}
	return units
}

// RecordSize returns what the item of a record counts.
func RecordSize(j events.Journal, at events.Offset, rec events.Record) int {
	return ItemSize(recordPlace(j, at).holding(rec))
}

// CheckpointSize returns what the item of a checkpoint counts.
func CheckpointSize(shard projections.Shard, n projections.CheckpointNumber, checkpoint []byte) int {
	return ItemSize(checkpointPlace(shard, n).holding(checkpoint))
}

// TimelineSize returns what a timeline item counts.
func TimelineSize(i projections.Stored) int {
	return ItemSize(itemPlace(i.Timeline, i.Last).holding(i.Data))
}

// ItemSize returns what an item counts: the names of its attributes and their values.
func ItemSize(item map[string]types.AttributeValue) (size int) {
	for name, value := range item {
		size += len(name) + valueSize(value)
	}
	return size
}

func valueSize(v types.AttributeValue) (size int) {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberB:
		return len(v.Value)
	case *types.AttributeValueMemberN:
		return numberSize(v.Value)
	case *types.AttributeValueMemberSS:
		for _, s := range v.Value {
			size += len(s)
		}
	case *types.AttributeValueMemberBS:
		for _, b := range v.Value {
			size += len(b)
		}
	case *types.AttributeValueMemberNS:
		for _, n := range v.Value {
			size += numberSize(n)
		}
	case *types.AttributeValueMemberL:
		size = 3
		for _, e := range v.Value {
			size += 1 + valueSize(e)
		}
	case *types.AttributeValueMemberM:
		size = 3
		for name, e := range v.Value {
			size += 1 + len(name) + valueSize(e)
		}
	default: // null or bool
		size = 1
	}
	return size
}

// numberSize returns what a number counts: a byte for each two significant digits, and
// one more, or two if it is negative. Zeros at either end are not significant.
func numberSize(n string) int {
	digits, negative := strings.CutPrefix(n, "-")
	digits = strings.Trim(strings.Replace(digits, ".", "", 1), "0")
	size := (len(digits)+1)/2 + 1
	if negative {
		size++
	}
	return size
}
