package dynamo

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/projections"
)

// From the Developer Guide: "DynamoDB item sizes and formats".
func TestItemSizeIsAsDocumented(t *testing.T) {
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	num := func(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }
	for what, test := range map[string]struct {
		value types.AttributeValue
		want  int
	}{
		"text: its bytes in UTF-8":                    {text("zoë"), 4},
		"empty text":                                  {text(""), 0},
		"binary: its bytes, not their base64":         {&types.AttributeValueMemberB{Value: make([]byte, 1000)}, 1000},
		"number: a byte for two digits, and one":      {num("27"), 2},
		"number: zeros at the end do not count":       {num("1000"), 2},
		"number: odd digits are rounded up":           {num("123"), 3},
		"number: nothing but a zero":                  {num("0"), 1},
		"number: a negative one has a byte more":      {num("-27"), 3},
		"number: zeros behind the point do not count": {num("0.0270"), 2},
		"largest offset":                              {num("18446744073709551615"), 11},
		"truth: a byte":                               {&types.AttributeValueMemberBOOL{Value: true}, 1},
		"null: a byte":                                {&types.AttributeValueMemberNULL{Value: true}, 1},
		"empty list: three bytes":                     {&types.AttributeValueMemberL{}, 3},
		"list: a byte more for each element":          {&types.AttributeValueMemberL{Value: []types.AttributeValue{text("ab"), text("c")}}, 3 + 2 + 3},
		"map: a byte more for each pair":              {&types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"key": text("ab")}}, 3 + 1 + 5},
		"set of texts":                                {&types.AttributeValueMemberSS{Value: []string{"ab", "c"}}, 3},
		"set of numbers":                              {&types.AttributeValueMemberNS{Value: []string{"27", "1"}}, 4},
		"set of binaries":                             {&types.AttributeValueMemberBS{Value: [][]byte{{1, 2}}}, 2},
	} {
		if got := ItemSize(item{"name": test.value}); got != 4+test.want {
			t.Errorf("%s: %d bytes, want %d and the name's 4", what, got, test.want)
		}
	}
}

func TestSizesOfWhatIsStored(t *testing.T) {
	data := make([]byte, 100)
	for what, test := range map[string]struct{ got, want int }{
		"record":     {RecordSize("j:17", 256, data), len("journal") + 4 + len("offset") + 3 + len("record") + 100},
		"checkpoint": {CheckpointSize(5, 1000, data), len("shard") + 2 + len("n") + 2 + len("checkpoint") + 100},
		"item":       {TimelineSize(projections.Stored{Timeline: projections.Timeline{User: "ann"}, Last: 12, Data: data}), len("user") + 3 + len("last") + 2 + len("item") + 100},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d bytes, want %d", what, test.got, test.want)
		}
	}
}

// From the Developer Guide: "Read and write operations".
func TestUnitsAreAsDocumented(t *testing.T) {
	for size, want := range map[int]int{0: 1, 1: 1, 1024: 1, 1025: 2, 3 * 1024: 3, 3*1024 + 512: 4, MaxItemSize: 400} {
		if got := WriteUnits(size); got != want {
			t.Errorf("a write of %d bytes costs %d units, want %d", size, got, want)
		}
	}
	for size, want := range map[int]float64{0: 1, 1: 1, 4096: 1, 4097: 2, 10 * 1024: 3, 1 << 20: 256} {
		if got := ReadUnits(size, true); got != want {
			t.Errorf("a consistent read of %d bytes costs %v units, want %v", size, got, want)
		}
		if got := ReadUnits(size, false); got != want/2 {
			t.Errorf("an eventually consistent read of %d bytes costs %v units, want %v", size, got, want/2)
		}
	}
}

// The emulator counts single puts as the service does, so the two must agree: this finds
// an error of ours by a byte.
func TestUnitsAgreeWithTheEmulator(t *testing.T) {
	s := openNew(t)
	for _, p := range []place{
		itemPlace(projections.Timeline{User: "ann"}, 1), itemPlace(projections.Timeline{User: "some.longer-name"}, 1_000_000), itemPlace(projections.Timeline{User: "ben"}, 12345), recordPlace("j:17", 18446744073709551615),
		checkpointPlace(4095, 100),
	} {
		around := 1024 - ItemSize(p.holding(nil))
		for _, size := range []int{1, around - 1, around, around + 1, around + 1024} { // the larger one of old and new counts
			i := p.holding([]byte(strings.Repeat("x", size)))
			out, err := s.db.PutItem(t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String(s.name(p.table)), Item: i, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := WriteUnits(ItemSize(i)), aws.ToFloat64(out.ConsumedCapacity.CapacityUnits); float64(got) != want {
				t.Errorf("%v with %d bytes: %d units, the emulator says %v", p, size, got, want)
			}
		}
	}
}
