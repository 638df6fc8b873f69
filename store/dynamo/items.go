package dynamo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
)

// An item of this engine is bytes at a place: a number in a partition of a table.
type item = map[string]types.AttributeValue

// A place names an item. Partition is text also where the table has a number there.
type place struct {
	table     *table
	partition string
	number    uint64
}

func (p place) String() string {
	return fmt.Sprintf("item %s %q, %s %d of table …-%s", p.table.partition.name, p.partition, p.table.sort.name, p.number, p.table.suffix)
}

func (p place) key() item {
	return item{
		p.table.partition.name: p.table.partition.value(p.partition),
		p.table.sort.name:      p.table.sort.value(strconv.FormatUint(p.number, 10)),
	}
}

// keyOf returns the key of an item.
func (t *table) keyOf(i item) item {
	return item{t.partition.name: i[t.partition.name], t.sort.name: i[t.sort.name]}
}

// textKey returns the key of an item of a table whose sort key is text, too.
func (t *table) textKey(partition, sort string) item {
	return item{t.partition.name: t.partition.value(partition), t.sort.name: t.sort.value(sort)}
}

func (a attribute) value(text string) types.AttributeValue {
	if a.kind == types.ScalarAttributeTypeN {
		return &types.AttributeValueMemberN{Value: text}
	}
	return &types.AttributeValueMemberS{Value: text}
}

// holding returns the item that holds a value at p.
func (p place) holding(value []byte) item {
	if value == nil {
		value = []byte{} // the SDK takes nil for an attribute without a value
	}
	i := p.key()
	i[p.table.value] = &types.AttributeValueMemberB{Value: value}
	return i
}

// valueOf returns what an item of the table holds.
func (t *table) valueOf(i item) ([]byte, error) {
	value, ok := i[t.value].(*types.AttributeValueMemberB)
	if !ok {
		return nil, fmt.Errorf("%w: it has no binary attribute %s", events.ErrCorrupt, t.value)
	}
	return value.Value, nil
}

func (t *table) numberOf(i item) (uint64, error) {
	if n, ok := i[t.sort.name].(*types.AttributeValueMemberN); ok {
		if number, err := strconv.ParseUint(n.Value, 10, 64); err == nil {
			return number, nil
		}
	}
	return 0, fmt.Errorf("%w: it has no number %s", events.ErrCorrupt, t.sort.name)
}

// put writes a value on condition that nothing stands at its place; otherwise it returns
// events.ErrConflict and what stands there.
func (s *Store) put(ctx context.Context, p place, value []byte) (stands []byte, err error) {
	stands, err = s.putIf(ctx, p, value, "attribute_not_exists(#a)", p.table.partition.name, nil)
	if stands == nil && errors.Is(err, events.ErrConflict) {
		return nil, fmt.Errorf("%v: %w", p, errSilent) // or the caller would take in what stands there for empty
	}
	return stands, err
}

var errSilent = errors.New("DynamoDB refuses a put because of what stands there, and does not show it")

// replace writes a value on condition that another stands at its place; otherwise it
// returns events.ErrConflict and what stands there, nil if nothing does.
func (s *Store) replace(ctx context.Context, p place, was, is []byte) (stands []byte, err error) {
	return s.putIf(ctx, p, is, "#a = :was", p.table.value, item{":was": &types.AttributeValueMemberB{Value: was}})
}

func (s *Store) putIf(ctx context.Context, p place, value []byte, condition, attribute string, values item) (stands []byte, err error) {
	in := &dynamodb.PutItemInput{
		TableName:                           aws.String(s.name(p.table)),
		Item:                                p.holding(value),
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            map[string]string{"#a": attribute},
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	size := ItemSize(in.Item)
	if size > MaxItemSize {
		return nil, tooLarge(p, size)
	}
	_, err = call(ctx, s, "PutItem", s.db.PutItem, in)
	failed := (*types.ConditionalCheckFailedException)(nil)
	switch {
	case err == nil:
		s.metrics.wrote(p.table, size)
		return nil, nil
	case !errors.As(err, &failed):
		return nil, err
	}
	s.metrics.refused(p.table, ItemSize(failed.Item))
	if len(failed.Item) == 0 {
		return nil, events.ErrConflict
	}
	stands, err = p.table.valueOf(failed.Item)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	return stands, events.ErrConflict
}

func tooLarge(p place, size int) error {
	return fmt.Errorf("%w: %v would have %d bytes, DynamoDB takes at most %d: report this as a bug", events.ErrFatal, p, size, MaxItemSize)
}

// get reads what stands at a place, consistently; the error is events.ErrNotFound if
// nothing does.
func (s *Store) get(ctx context.Context, p place) ([]byte, error) {
	out, err := call(ctx, s, "GetItem", s.db.GetItem, &dynamodb.GetItemInput{
		TableName:      aws.String(s.name(p.table)),
		Key:            p.key(),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	s.metrics.read(p.table, ItemSize(out.Item), true)
	if len(out.Item) == 0 {
		return nil, events.ErrNotFound
	}
	value, err := p.table.valueOf(out.Item)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	return value, nil
}

// A found is a value that a read found, and its number in the partition.
type found struct {
	number uint64
	value  []byte
}

// unbounded is the size of a read that stops at the end only.
const unbounded = math.MaxInt

// scan reads the values of a partition from a number on, in order, as many as fit into
// about size bytes and at least one if there is one.
//
// DynamoDB cuts its answers: by Limit, and at 1 MB. So only an answer that does not say
// from where to go on has met the end.
func (s *Store) scan(ctx context.Context, from place, size int, c events.Consistency) (all []found, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	in := s.queryFrom(from)
	in.ConsistentRead = aws.Bool(c != events.Relaxed)
	for used := 0; ; {
		each := from.table.usual
		if len(all) > 0 {
			each = max(1, used/len(all))
		}
		in.Limit = limit(size-used, each)
		out, err := s.query(ctx, from.table, in)
		if err != nil {
			return nil, err
		}
		for _, i := range out.Items {
			f, err := from.found(i)
			if err != nil {
				return nil, err
			}
			if used += len(f.value); used > size && len(all) > 0 {
				return all, nil
			}
			all = append(all, f)
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
		if len(out.LastEvaluatedKey) == 0 || used >= size && len(all) > 0 {
			return all, nil
		}
	}
}

// limit returns how many items to ask for if a number of bytes is wanted, and each has
// about so many; nil: as many as there are. DynamoDB charges what it has looked at.
func limit(bytes, each int) *int32 {
	if bytes/each >= maxLimit {
		return nil
	}
	return aws.Int32(int32(bytes/each + 1))
}

const maxLimit = 10_000 // more than 1 MB has of the smallest items

// last reads the value with the highest number of a partition; the error is
// events.ErrNotFound if there is none.
func (s *Store) last(ctx context.Context, t *table, partition string, c events.Consistency) (found, error) {
	from := place{t, partition, 0}
	in := s.queryFrom(from)
	in.ConsistentRead = aws.Bool(c != events.Relaxed)
	in.ScanIndexForward = aws.Bool(false)
	in.Limit = aws.Int32(1)
	for {
		out, err := s.query(ctx, t, in)
		switch {
		case err != nil:
			return found{}, err
		case len(out.Items) > 0:
			return from.found(out.Items[0])
		case len(out.LastEvaluatedKey) == 0:
			return found{}, events.ErrNotFound
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// queryFrom returns a query of the items of a partition from a number on.
func (s *Store) queryFrom(p place) *dynamodb.QueryInput {
	key := p.key()
	return &dynamodb.QueryInput{
		TableName:                 aws.String(s.name(p.table)),
		KeyConditionExpression:    aws.String("#p = :p AND #s >= :s"),
		ExpressionAttributeNames:  map[string]string{"#p": p.table.partition.name, "#s": p.table.sort.name},
		ExpressionAttributeValues: item{":p": key[p.table.partition.name], ":s": key[p.table.sort.name]},
	}
}

// query reads one page.
func (s *Store) query(ctx context.Context, t *table, in *dynamodb.QueryInput) (*dynamodb.QueryOutput, error) {
	out, err := call(ctx, s, "Query", s.db.Query, in)
	if err != nil {
		return nil, err
	}
	s.metrics.read(t, sizeOf(out.Items), aws.ToBool(in.ConsistentRead))
	return out, nil
}

// scanTable calls visit with the items of a table, page by page, until there are no more or
// it wants none.
func (s *Store) scanTable(ctx context.Context, t *table, in *dynamodb.ScanInput, visit func([]item) (more bool, err error)) error {
	in.TableName, in.ConsistentRead = aws.String(s.name(t)), aws.Bool(true)
	for {
		out, err := call(ctx, s, "Scan", s.db.Scan, in)
		if err != nil {
			return err
		}
		s.metrics.read(t, sizeOf(out.Items), true)
		if more, err := visit(out.Items); err != nil || !more {
			return err
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(out.LastEvaluatedKey) == 0 {
			return nil
		}
	}
}

// sizeOf returns what items count together.
func sizeOf(items []item) (size int) {
	for _, i := range items {
		size += ItemSize(i)
	}
	return size
}

// found decodes an item that a read of p's partition has found.
func (p place) found(i item) (f found, err error) {
	if f.number, err = p.table.numberOf(i); err != nil {
		return f, fmt.Errorf("an item of %s %q in table …-%s: %w", p.table.partition.name, p.partition, p.table.suffix, err)
	}
	p.number = f.number
	if f.value, err = p.table.valueOf(i); err != nil {
		return f, fmt.Errorf("%v: %w", p, err)
	}
	return f, nil
}

// contiguous returns the values numbered from, from+1, … up to the first that is missing.
func contiguous(from uint64, all []found) [][]byte {
	values := make([][]byte, 0, len(all))
	for i, f := range all {
		if f.number != from+uint64(i) {
			break
		}
		values = append(values, f.value)
	}
	return values
}
