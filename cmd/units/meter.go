package units

import (
	"context"
	"sync"
	"time"

	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo"
	"timberline/store/pebble"
)

// A meter is a store that takes as long as DynamoDB, and counts what that would charge.
type meter struct {
	*pebble.Store

	mu          sync.Mutex
	write, read time.Duration
	log         Use
	checkpoints Use
	timelines   Use
	appending   time.Duration

	appends sync.WaitGroup // that are not counted yet
}

// How store/dynamo writes and reads.
const (
	batchItems = 25 // of a BatchWriteItem
	parallel   = 8  // batches on their way at a time
	pageBytes  = 1 << 20
)

// begin forgets what was counted, and says what calls take from now on.
func (m *meter) begin(write, read time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write, m.read = write, read
	m.log, m.checkpoints, m.timelines, m.appending = Use{}, Use{}, Use{}, 0
}

// delay waits as long as n writes and reads take that follow each other.
func (m *meter) delay(writes, reads int) {
	m.mu.Lock()
	d := time.Duration(writes)*m.write + time.Duration(reads)*m.read
	m.mu.Unlock()
	time.Sleep(d)
}

// Append implements events.Log.
func (m *meter) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	m.appends.Add(1)
	defer m.appends.Done()
	began := time.Now()
	m.delay(1, 0)
	stands, err := m.Store.Append(ctx, j, at, rec)
	size := dynamo.RecordSize(j, at, rec)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.wrote(1, size, dynamo.WriteUnits(size))
	m.appending += time.Since(began)
	return stands, err
}

// ReadLog implements events.Log.
func (m *meter) ReadLog(ctx context.Context, j events.Journal, from events.Offset, size int, c events.Consistency) ([]events.Record, error) {
	recs, err := m.Store.ReadLog(ctx, j, from, size, c)
	bytes := 0
	for i, rec := range recs {
		bytes += dynamo.RecordSize(j, from+events.Offset(i), rec)
	}
	m.queried(&m.log, bytes, c)
	return recs, err
}

// queried counts a query that found so many bytes, and takes its time.
func (m *meter) queried(u *Use, bytes int, c events.Consistency) {
	m.mu.Lock()
	pages := max(1, (bytes+pageBytes-1)/pageBytes)
	u.Queries += pages
	u.ReadUnits += dynamo.ReadUnits(bytes, c != events.Relaxed)
	m.mu.Unlock()
	m.delay(0, pages)
}

// Commit implements projections.Checkpoints: the checkpoint, then batches of items.
func (m *meter) Commit(ctx context.Context, s projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	batches := (len(items) + batchItems - 1) / batchItems
	m.delay(1+(batches+parallel-1)/parallel, 0)
	stands, err := m.Store.Commit(ctx, s, n, checkpoint, items)
	size := dynamo.CheckpointSize(s, n, checkpoint)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checkpoints.wrote(1, size, dynamo.WriteUnits(size))
	for _, i := range items {
		size := dynamo.TimelineSize(i)
		m.timelines.wrote(1, size, dynamo.WriteUnits(size))
	}
	return stands, err
}

// NewestItem implements projections.Items.
func (m *meter) NewestItem(ctx context.Context, t projections.Timeline, c events.Consistency) (projections.Stored, error) {
	i, err := m.Store.NewestItem(ctx, t, c)
	m.queried(&m.timelines, dynamo.TimelineSize(i), c)
	return i, err
}
