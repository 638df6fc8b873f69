package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"timberline/events"
	"timberline/projections"
)

func checkpointPlace(shard projections.Shard, n projections.CheckpointNumber) place {
	return place{checkpointsTable, strconv.FormatUint(uint64(shard), 10), uint64(n)}
}

func itemPlace(t projections.Timeline, last events.Seq) place {
	return place{timelinesTable, timelinePartition(t), uint64(last)}
}

// timelinePartition names the partition of a timeline: the user's name, and before it the
// version unless that is the first. No name has the character between.
func timelinePartition(t projections.Timeline) string {
	if t.Version == 0 {
		return string(t.User)
	}
	return fmt.Sprintf("%d/%s", t.Version, t.User)
}

// timelineOf returns the timeline that a partition holds; ok is false if it is none.
func timelineOf(partition string) (t projections.Timeline, ok bool) {
	version, user, found := strings.Cut(partition, "/")
	if !found {
		return projections.Timeline{User: events.User(partition)}, true
	}
	n, err := strconv.ParseUint(version, 10, 32)
	t = projections.Timeline{Version: projections.Version(n), User: events.User(user)}
	return t, err == nil && timelinePartition(t) == partition
}

// LastCheckpoint implements projections.Checkpoints.
func (s *Store) LastCheckpoint(ctx context.Context, shard projections.Shard, _ events.Consistency) (projections.CheckpointNumber, []byte, error) {
	f, err := s.last(ctx, checkpointsTable, checkpointPlace(shard, 0).partition, events.Strong)
	if errors.Is(err, events.ErrNotFound) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("last checkpoint of shard %d: %w", shard, err)
	}
	return projections.CheckpointNumber(f.number), f.value, nil
}

// ReadCheckpoints implements projections.Checkpoints.
func (s *Store) ReadCheckpoints(ctx context.Context, shard projections.Shard, from projections.CheckpointNumber, size int) ([][]byte, error) {
	all, err := s.scan(ctx, checkpointPlace(shard, from), size, events.Strong)
	if err != nil {
		return nil, fmt.Errorf("checkpoints of shard %d from %d: %w", shard, from, err)
	}
	return contiguous(uint64(from), all), nil
}

// Commit implements projections.Checkpoints: first the checkpoint, then the items.
func (s *Store) Commit(ctx context.Context, shard projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	batches, err := batches(items) // what is too large is found before the checkpoint stands
	if err != nil {
		return nil, fmt.Errorf("commit checkpoint %d of shard %d: %w", n, shard, err)
	}
	stands, err := s.put(ctx, checkpointPlace(shard, n), checkpoint)
	if err == nil {
		err = s.write(ctx, batches)
	}
	if err != nil {
		err = fmt.Errorf("commit checkpoint %d of shard %d: %w", n, shard, err)
	}
	return stands, err
}

// PutItems implements projections.Items: first the first items of all timelines, then the
// second ones, and so on.
func (s *Store) PutItems(ctx context.Context, items []projections.Stored) error {
	for _, layer := range layers(items) {
		batches, err := batches(layer)
		if err == nil {
			err = s.write(ctx, batches)
		}
		if err != nil {
			return fmt.Errorf("put %d items: %w", len(items), err)
		}
	}
	return nil
}

// layers deals items out so that no layer has two of one timeline.
func layers(items []projections.Stored) (all [][]projections.Stored) {
	next := make(map[projections.Timeline]int, len(items)) // the layer of a timeline's next item
	for _, item := range items {
		n := next[item.Timeline]
		if next[item.Timeline]++; n == len(all) {
			all = append(all, nil)
		}
		all[n] = append(all[n], item)
	}
	return all
}

// Limits of one BatchWriteItem: DynamoDB's is 16 MB, but a smaller request is surer to
// be through in the time that an attempt has.
const (
	batchItems = 25
	batchBytes = 2 << 20
)

// parallel bounds the batches of one call on their way at a time.
const parallel = 8

// quietAttribute stands in items that the stream's readers pass over.
const quietAttribute = "quiet"

// batches deals items out to requests, each within the limits.
func batches(items []projections.Stored) (all [][]types.WriteRequest, err error) {
	var batch []types.WriteRequest
	bytes := 0
	for _, stored := range items {
		p := itemPlace(stored.Timeline, stored.Last)
		i := p.holding(stored.Data)
		if stored.Quiet {
			i[quietAttribute] = &types.AttributeValueMemberBOOL{Value: true}
		}
		size := ItemSize(i)
		if size > MaxItemSize {
			return nil, tooLarge(p, size)
		}
		if len(batch) == batchItems || len(batch) > 0 && bytes+size > batchBytes {
			all = append(all, batch)
			batch, bytes = nil, 0
		}
		batch = append(batch, types.WriteRequest{PutRequest: &types.PutRequest{Item: i}})
		bytes += size
	}
	if len(batch) > 0 {
		all = append(all, batch)
	}
	return all, nil
}

// write writes batches until nothing of them comes back unprocessed.
func (s *Store) write(ctx context.Context, batches [][]types.WriteRequest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, batch := range batches {
		g.Go(func() error { return s.writeBatch(ctx, batch) })
	}
	return g.Wait()
}

// writeBatch writes one batch. The deadline is of each: there may be a thousand.
func (s *Store) writeBatch(ctx context.Context, batch []types.WriteRequest) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	name := s.name(timelinesTable)
	for try := 1; ; try++ {
		out, err := call(ctx, s, "BatchWriteItem", s.db.BatchWriteItem, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{name: batch},
		})
		if err != nil {
			return err
		}
		left := out.UnprocessedItems[name]
		s.metrics.wroteBatch(batch, left)
		if len(left) == 0 {
			return nil
		}
		batch = left
		if err := s.sleep(ctx, try); err != nil {
			return fmt.Errorf("%d items of a batch are still unprocessed after %d attempts: %w", len(left), try, err)
		}
	}
}

// NewestItem implements projections.Items.
func (s *Store) NewestItem(ctx context.Context, t projections.Timeline, c events.Consistency) (projections.Stored, error) {
	f, err := s.last(ctx, timelinesTable, timelinePartition(t), c)
	if err != nil {
		return projections.Stored{}, fmt.Errorf("newest item of %s: %w", t, err)
	}
	return projections.Stored{Timeline: t, Last: events.Seq(f.number), Data: f.value}, nil
}

// ReadItems implements projections.Items.
func (s *Store) ReadItems(ctx context.Context, t projections.Timeline, from events.Seq, size int, c events.Consistency) ([]projections.Stored, error) {
	all, err := s.scan(ctx, itemPlace(t, from), size, c)
	if err != nil {
		return nil, fmt.Errorf("items of %s from %d: %w", t, from, err)
	}
	items := make([]projections.Stored, len(all))
	for i, f := range all {
		items[i] = projections.Stored{Timeline: t, Last: events.Seq(f.number), Data: f.value}
	}
	return items, nil
}

// ScanItems implements projections.Items.
func (s *Store) ScanItems(ctx context.Context, v projections.Version, visit func(projections.Stored) error) error {
	var visited error
	err := s.scanTable(ctx, timelinesTable, new(dynamodb.ScanInput), func(items []item) (more bool, err error) {
		for _, i := range items {
			stored, ok, err := storedOf(i)
			if err != nil {
				return false, err
			}
			if !ok || stored.Version != v {
				continue
			}
			if visited = visit(stored); visited != nil {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("scan the timelines: %w", err)
	}
	return visited
}

// storedOf returns what an item of the timelines table is; ok is false if it is in no
// user's timeline.
func storedOf(i item) (stored projections.Stored, ok bool, err error) {
	partition, isText := i[timelinesTable.partition.name].(*types.AttributeValueMemberS)
	if !isText {
		return stored, false, nil
	}
	if stored.Timeline, ok = timelineOf(partition.Value); !ok {
		return stored, false, nil
	}
	f, err := place{timelinesTable, partition.Value, 0}.found(i)
	stored.Last, stored.Data = events.Seq(f.number), f.value
	return stored, true, err
}
