package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/projections"
)

// checkpointAttribute says from which checkpoint a row follows.
const checkpointAttribute = "n"

func rowItem(r projections.Row) item {
	i := rowsTable.textKey(r.Space, r.Key)
	i[checkpointAttribute] = &types.AttributeValueMemberN{Value: strconv.FormatUint(uint64(r.Checkpoint), 10)}
	i[rowsTable.value] = &types.AttributeValueMemberB{Value: append([]byte{}, r.Data...)}
	return i
}

func decodeRow(i item) (r projections.Row, err error) {
	space, isText := i[rowsTable.partition.name].(*types.AttributeValueMemberS)
	key, isTextToo := i[rowsTable.sort.name].(*types.AttributeValueMemberS)
	n, isNumber := i[checkpointAttribute].(*types.AttributeValueMemberN)
	if !isText || !isTextToo || !isNumber {
		return r, fmt.Errorf("%w: a row lacks its key, or the number %s", events.ErrCorrupt, checkpointAttribute)
	}
	checkpoint, err := strconv.ParseUint(n.Value, 10, 64)
	if err != nil {
		return r, fmt.Errorf("%w: row %s of %s has no number %s", events.ErrCorrupt, key.Value, space.Value, checkpointAttribute)
	}
	r = projections.Row{Space: space.Value, Key: key.Value, Checkpoint: projections.CheckpointNumber(checkpoint)}
	r.Data, err = rowsTable.valueOf(i)
	return r, err
}

// GetRow implements projections.Rows.
func (s *Store) GetRow(ctx context.Context, space, key string) (row projections.Row, err error) {
	out, err := call(ctx, s, "GetItem", s.db.GetItem, &dynamodb.GetItemInput{
		TableName: aws.String(s.name(rowsTable)), Key: rowsTable.textKey(space, key), ConsistentRead: aws.Bool(true),
	})
	switch {
	case err != nil:
	case len(out.Item) == 0:
		s.metrics.read(rowsTable, 0, true)
		err = events.ErrNotFound
	default:
		s.metrics.read(rowsTable, ItemSize(out.Item), true)
		row, err = decodeRow(out.Item)
	}
	if err != nil {
		return row, fmt.Errorf("row %s of %s: %w", key, space, err)
	}
	return row, nil
}

// ReadRows implements projections.Rows.
func (s *Store) ReadRows(ctx context.Context, space, from string, size int) (all []projections.Row, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	in := &dynamodb.QueryInput{
		TableName:                 aws.String(s.name(rowsTable)),
		KeyConditionExpression:    aws.String("#s = :s"),
		ExpressionAttributeNames:  map[string]string{"#s": rowsTable.partition.name},
		ExpressionAttributeValues: item{":s": &types.AttributeValueMemberS{Value: space}},
		ConsistentRead:            aws.Bool(true),
		Limit:                     limit(size, rowsTable.usual),
	}
	if from != "" { // a key is never empty
		*in.KeyConditionExpression += " AND #k >= :k"
		in.ExpressionAttributeNames["#k"] = rowsTable.sort.name
		in.ExpressionAttributeValues[":k"] = &types.AttributeValueMemberS{Value: from}
	}
	for {
		out, err := s.query(ctx, rowsTable, in)
		if err != nil {
			return nil, fmt.Errorf("rows of %s from %q: %w", space, from, err)
		}
		for _, i := range out.Items {
			row, err := decodeRow(i)
			if err != nil {
				return nil, err
			}
			if size -= len(row.Data); size < 0 && len(all) > 0 {
				return all, nil
			}
			all = append(all, row)
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(out.LastEvaluatedKey) == 0 || size <= 0 && len(all) > 0 {
			return all, nil
		}
	}
}

// PutRows implements projections.Rows: each row by itself, as batches know no conditions,
// some at a time.
func (s *Store) PutRows(ctx context.Context, rows []projections.Row) error {
	if err := projections.ValidateRows(rows); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, row := range rows {
		g.Go(func() error { return s.putRow(ctx, row) })
	}
	return g.Wait()
}

func (s *Store) putRow(ctx context.Context, r projections.Row) error {
	i := rowItem(r)
	size := ItemSize(i)
	if size > MaxItemSize {
		return fmt.Errorf("%w: row %s of %s would have %d bytes, DynamoDB takes at most %d", events.ErrFatal, r.Key, r.Space, size, MaxItemSize)
	}
	_, err := call(ctx, s, "PutItem", s.db.PutItem, &dynamodb.PutItemInput{
		TableName: aws.String(s.name(rowsTable)), Item: i,
		ConditionExpression:       aws.String("attribute_not_exists(#n) OR #n < :n"),
		ExpressionAttributeNames:  map[string]string{"#n": checkpointAttribute},
		ExpressionAttributeValues: item{":n": i[checkpointAttribute]},
	})
	if newer := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &newer) {
		s.metrics.refused(rowsTable, size)
		return nil
	}
	if err != nil {
		return fmt.Errorf("put row %s of %s: %w", r.Key, r.Space, err)
	}
	s.metrics.wrote(rowsTable, size)
	return nil
}

// DeleteRows implements projections.Rows. It goes through the whole table.
func (s *Store) DeleteRows(ctx context.Context, prefix string) error {
	return s.deleteRows(ctx, prefix, func(item) (bool, error) { return true, nil })
}

// CutRows implements migrations.Restorable. It goes through the whole table.
func (s *Store) CutRows(ctx context.Context, prefix string, cut func(projections.Row) (bool, error)) error {
	return s.deleteRows(ctx, prefix, func(i item) (bool, error) {
		row, err := decodeRow(i)
		if err != nil {
			return false, err
		}
		return cut(row)
	})
}

func (s *Store) deleteRows(ctx context.Context, prefix string, which func(item) (bool, error)) error {
	in := &dynamodb.ScanInput{
		FilterExpression:          aws.String("begins_with(#s, :s)"),
		ExpressionAttributeNames:  map[string]string{"#s": rowsTable.partition.name},
		ExpressionAttributeValues: item{":s": &types.AttributeValueMemberS{Value: prefix}},
	}
	err := s.scanTable(ctx, rowsTable, in, func(items []item) (more bool, err error) {
		var keys []item
		for _, i := range items {
			is, err := which(i)
			if err != nil {
				return false, err
			}
			if is {
				keys = append(keys, rowsTable.keyOf(i))
			}
		}
		return true, s.deleteAll(ctx, rowsTable, keys)
	})
	if err != nil {
		return fmt.Errorf("delete the rows of %s…: %w", prefix, err)
	}
	return nil
}
