package dynamo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/projections"
)

// JournalEnds implements projections.Upkeep. Of each journal two records are read, however
// many it has: a scan goes on behind the last place that a journal can have.
func (s *Store) JournalEnds(ctx context.Context) (map[uint64]events.Offset, error) {
	ends := make(map[uint64]events.Offset)
	in := &dynamodb.ScanInput{TableName: aws.String(s.name(logTable)), Limit: aws.Int32(1), ConsistentRead: aws.Bool(true)}
	for {
		out, err := call(ctx, s, "Scan", s.db.Scan, in)
		if err != nil {
			return nil, fmt.Errorf("ends of the journals: %w", err)
		}
		if len(out.Items) == 0 {
			if in.ExclusiveStartKey = out.LastEvaluatedKey; len(out.LastEvaluatedKey) == 0 {
				return ends, nil
			}
			continue
		}
		s.metrics.read(logTable, ItemSize(out.Items[0]), true)
		partition, ok := out.Items[0][logTable.partition.name].(*types.AttributeValueMemberS)
		if !ok {
			return nil, fmt.Errorf("ends of the journals: %w: a record is in no journal", events.ErrCorrupt)
		}
		first, err := logTable.numberOf(out.Items[0])
		if err == nil && first == 1 {
			err = s.journalEnd(ctx, partition.Value, ends)
		}
		if err != nil {
			return nil, fmt.Errorf("end of journal %s: %w", partition.Value, err)
		}
		in.ExclusiveStartKey = place{logTable, partition.Value, math.MaxUint64}.key()
	}
}

// journalEnd adds the end of an edge's journal.
func (s *Store) journalEnd(ctx context.Context, partition string, ends map[uint64]events.Offset) error {
	name, err := url.PathUnescape(partition)
	if err != nil {
		return nil // nobody's
	}
	n, ok := events.Journal(name).Number()
	if !ok {
		return nil
	}
	f, err := s.last(ctx, logTable, partition, events.Strong)
	ends[n] = events.Offset(f.number)
	return err
}

// CutCheckpoints implements projections.Upkeep.
func (s *Store) CutCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber) error {
	partition := strconv.FormatUint(uint64(shard), 10)
	for {
		f, err := s.last(ctx, checkpointsTable, partition, events.Strong)
		switch {
		case errors.Is(err, events.ErrNotFound), err == nil && f.number < uint64(from):
			return nil
		case err == nil:
			err = s.remove(ctx, place{checkpointsTable, partition, f.number}, f.value)
		}
		if err != nil {
			return fmt.Errorf("cut checkpoints of shard %d from %d: %w", shard, from, err)
		}
	}
}

// remove deletes what stands at a place, if that is still the value given: a delete that
// lands late must not take away what has been put there since.
func (s *Store) remove(ctx context.Context, p place, was []byte) error {
	_, err := call(ctx, s, "DeleteItem", s.db.DeleteItem, &dynamodb.DeleteItemInput{
		TableName: aws.String(s.name(p.table)), Key: p.key(),
		ConditionExpression:       aws.String("#a = :was"),
		ExpressionAttributeNames:  map[string]string{"#a": p.table.value},
		ExpressionAttributeValues: item{":was": &types.AttributeValueMemberB{Value: was}},
	})
	if other := (*types.ConditionalCheckFailedException)(nil); errors.As(err, &other) {
		return nil // an earlier attempt has landed, or the caller meets what stands there now
	}
	return err
}

// DeleteRecords implements projections.Upkeep: some are read, and then deleted, some at a
// time. Nothing is put in the place of a deleted record, so a late delete does no harm.
func (s *Store) DeleteRecords(ctx context.Context, j events.Journal, below events.Offset) error {
	for left := true; left; {
		all, err := s.scan(ctx, recordPlace(j, 2), deleteBytes, events.Strong)
		var keys []item
		for _, f := range all {
			if f.number < uint64(below) {
				keys = append(keys, recordPlace(j, events.Offset(f.number)).key())
			}
		}
		if left = len(keys) > 0; !left && below > 1 {
			keys = []item{recordPlace(j, 1).key()}
		}
		if err == nil {
			err = s.deleteAll(ctx, logTable, keys)
		}
		if err != nil {
			return fmt.Errorf("delete the records of journal %s: %w", j, err)
		}
	}
	return nil
}

// deleteAll deletes items, whatever they are, some at a time.
func (s *Store) deleteAll(ctx context.Context, t *table, keys []item) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, key := range keys {
		g.Go(func() error {
			_, err := call(ctx, s, "DeleteItem", s.db.DeleteItem, &dynamodb.DeleteItemInput{TableName: aws.String(s.name(t)), Key: key})
			return err
		})
	}
	return g.Wait()
}

// DeleteItems implements projections.Upkeep: some are read, and then deleted in batches, the
// last one when all others of them are gone.
func (s *Store) DeleteItems(ctx context.Context, t projections.Timeline, below events.Seq) error {
	for {
		all, err := s.scan(ctx, itemPlace(t, 0), deleteBytes, events.Strong)
		if n := slices.IndexFunc(all, func(f found) bool { return f.number >= uint64(below) }); n >= 0 {
			all = all[:n]
		}
		if err == nil && len(all) == 0 {
			return nil
		}
		if err == nil {
			err = s.write(ctx, deletions(t, all[:len(all)-1]))
		}
		if err == nil {
			err = s.write(ctx, deletions(t, all[len(all)-1:]))
		}
		if err != nil {
			return fmt.Errorf("delete items of %s below %d: %w", t, below, err)
		}
	}
}

// deletions deals what is to be deleted out to requests.
func deletions(t projections.Timeline, all []found) (batches [][]types.WriteRequest) {
	for some := range slices.Chunk(all, batchItems) {
		var batch []types.WriteRequest
		for _, f := range some {
			batch = append(batch, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: itemPlace(t, events.Seq(f.number)).key()}})
		}
		batches = append(batches, batch)
	}
	return batches
}

// deleteBytes is how many bytes of items are read to be deleted together.
const deleteBytes = 1 << 20

// EmptyTimelines implements projections.Upkeep. Where there are items it deletes the table
// and creates it anew: to delete them one by one costs as much as to write them.
func (s *Store) EmptyTimelines(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	empty, err := s.empty(ctx, timelinesTable)
	switch {
	case noTable(err): // it was deleted, and then something failed
		err = s.createTable(ctx, timelinesTable)
	case err == nil && !empty:
		err = s.recreate(ctx, timelinesTable)
	}
	if err == nil {
		err = s.completeTable(ctx, timelinesTable)
	}
	if err != nil {
		return fmt.Errorf("empty table %s: %w", s.name(timelinesTable), err)
	}
	return nil
}

// empty reports whether a table has no items.
func (s *Store) empty(ctx context.Context, t *table) (bool, error) {
	none := true
	err := s.scanTable(ctx, t, &dynamodb.ScanInput{Limit: aws.Int32(1)}, func(items []item) (more bool, err error) {
		none = len(items) == 0
		return none, nil
	})
	return none, err
}

// recreate deletes a table, waits until it is gone, and creates it.
func (s *Store) recreate(ctx context.Context, t *table) error {
	name := aws.String(s.name(t))
	for try := 1; ; try++ {
		_, err := call(ctx, s, "DeleteTable", s.db.DeleteTable, &dynamodb.DeleteTableInput{TableName: name})
		if noTable(err) {
			return s.createTable(ctx, t)
		}
		if unlessInUse(err) != nil {
			return err
		}
		if err := s.sleep(ctx, try); err != nil {
			return fmt.Errorf("it is still there after %v: %w", createWait, err)
		}
	}
}
