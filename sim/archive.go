package sim

import (
	"context"
	"sync"

	"timberline/events"
	"timberline/projections"
	"timberline/sim/check"
)

// An archive has what was trimmed: it has not ceased to be owed to those who read before.
type archive struct {
	w *world

	mu       sync.Mutex
	readers  map[events.User]*check.Reader
	trimmed  map[events.User][]events.Event // of the timelines, from seq 1 on
	journals map[events.Journal][]events.Record
}

func newArchive(w *world) *archive {
	a := &archive{
		w: w, readers: make(map[events.User]*check.Reader),
		trimmed: make(map[events.User][]events.Event), journals: make(map[events.Journal][]events.Record),
	}
	for _, u := range users {
		a.readers[u] = w.history.Reader(u, "archive")
	}
	return a
}

// items takes in what is about to be trimmed of a timeline, and tells the history of it.
func (a *archive) items(u events.User, items []projections.Stored, below events.Seq) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, stored := range items {
		if stored.Last >= below {
			break
		}
		item, err := stored.Decode()
		if err != nil {
			return err
		}
		for i, entry := range item.Entries {
			seq := item.First + events.Seq(i)
			if seq <= events.Seq(len(a.trimmed[u])) {
				continue
			}
			e, err := events.Raw(entry.Event).Decode()
			if err != nil {
				return err
			}
			a.readers[u].Entry(seq, &e)
			a.trimmed[u] = append(a.trimmed[u], e)
			a.w.count(&a.w.outcome.Trimmed)
		}
	}
	a.w.history.Trimmed(u, below-1)
	return nil
}

// journal takes in the records of a journal that is about to be trimmed.
func (a *archive) journal(ctx context.Context, log events.Log, j events.Journal) error {
	recs, err := log.ReadLog(ctx, j, 1, wholeTimeline, events.Strong)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(recs) > 0 {
		a.journals[j] = recs
		a.w.count(&a.w.outcome.Gone)
	}
	return err
}

// records returns the records of a journal that was trimmed.
func (a *archive) records(j events.Journal) []events.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.journals[j]
}

// replaced forgets what is trimmed no more, as an older copy was put in place of the store,
// and has been shown the rest of the new one.
func (a *archive) replaced(ctx context.Context, s whollyRead, id events.StoreID) error {
	rows, err := s.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := make(map[events.Journal][]events.Record)
	for _, r := range rows {
		if r.Trimmed {
			kept[r.Journal()] = a.journals[r.Journal()]
		}
	}
	a.journals = kept
	for _, u := range users {
		begins, err := firstOf(ctx, s, u)
		if err != nil {
			return err
		}
		a.readers[u].Reset(id)
		a.trimmed[u] = a.trimmed[u][:min(int(begins-1), len(a.trimmed[u]))]
		for i := range a.trimmed[u] {
			a.readers[u].Entry(events.Seq(i+1), &a.trimmed[u][i])
		}
		a.w.history.Trimmed(u, begins-1)
	}
	return nil
}

// whollyRead is a store as those read it who look whether it is as it should be.
type whollyRead interface {
	projections.Source
	projections.Timelines
}

// firstOf returns from which seq on a user's timeline can be read.
func firstOf(ctx context.Context, s projections.Timelines, u events.User) (events.Seq, error) {
	run, err := projections.NewReader(s, projections.Meta{Shards: shards}).Head(ctx, u)
	return run.First, err
}
