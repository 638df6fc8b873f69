package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"timberline/bus/local"
	"timberline/events"
	"timberline/projections"
	"timberline/store/pebble"
)

// withStore opens the store of a folder that nobody uses.
func withStore(data string, use func(wholeStore) error) error {
	s, err := pebble.Open(storePath(data), pebble.Options{})
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

// A look is what stands in a store of one shard.
type look struct {
	meta      projections.Meta
	versions  projections.Versions
	timelines map[events.User]standing
	items     map[projections.Version]int // of all versions so far
	gone      int                         // journals that were trimmed
}

// A standing is what stands in a timeline, as one reads it.
type standing struct {
	first   events.Seq
	entries []uint64     // hashes
	ends    []events.Seq // of its items
}

var hashSeed = maphash.MakeSeed()

// add adds the next entry.
func (s *standing) add(seq events.Seq, event []byte) {
	if len(s.entries) == 0 {
		s.first = seq
	}
	if seq != s.first+events.Seq(len(s.entries)) {
		event = nil // it is none of those that stand there
	}
	s.entries = append(s.entries, maphash.Bytes(hashSeed, event))
}

func (s *standing) head() events.Seq { return s.first + events.Seq(len(s.entries)) - 1 }

// same reports whether one reads the same.
func (s *standing) same(o *standing) bool {
	return s.first == o.first && len(s.entries) == len(o.entries) && s.follows(o) == nil
}

// follows says whether all that stood there before does so still, but for what was trimmed.
func (s *standing) follows(was *standing) error {
	if s.first < was.first || s.head() < was.head() {
		return fmt.Errorf("it has seqs %d to %d, and had %d to %d", s.first, s.head(), was.first, was.head())
	}
	for seq := s.first; seq <= was.head(); seq++ {
		if s.entries[seq-s.first] != was.entries[seq-was.first] {
			return fmt.Errorf("another entry is at seq %d", seq)
		}
	}
	return nil
}

// old reports whether a user is one of those whose messages stood there at first.
func old(u events.User) bool { return strings.HasPrefix(string(u), "old") }

// trimmed returns where a timeline begins that was trimmed to so many entries, if it is old.
func (s *standing) trimmed(u events.User, keep uint64) events.Seq {
	first := s.first
	for _, end := range s.ends[:len(s.ends)-1] {
		if old(u) && uint64(s.head()-end) >= keep {
			first = max(first, end+1)
		}
	}
	return first
}

// lookAt looks at the store of a folder that nobody uses.
func lookAt(ctx context.Context, data string) (l look, err error) {
	l = look{timelines: make(map[events.User]standing), items: make(map[projections.Version]int)}
	err = withStore(data, func(s wholeStore) (err error) {
		l.meta = s.Meta()
		if l.versions, err = projections.ReadVersions(ctx, s, 0); err != nil {
			return err
		}
		rows, err := s.ListJournals(ctx, 0, events.Strong)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Trimmed {
				l.gone++
			}
		}
		ends := make(map[events.User][]events.Seq)
		for v := range l.versions.Next {
			err := s.ScanItems(ctx, v, func(i projections.Stored) error {
				if l.items[v]++; v == l.versions.Live {
					ends[i.User] = append(ends[i.User], i.Last)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		reader := projections.NewReader(s, l.meta)
		for u, ends := range ends {
			if l.timelines[u], err = readStanding(ctx, reader, u); err != nil {
				return err
			}
			x := l.timelines[u]
			x.ends = ends
			l.timelines[u] = x
		}
		return nil
	})
	return l, err
}

// readStanding reads a timeline from where it begins.
func readStanding(ctx context.Context, r *projections.Reader, u events.User) (s standing, err error) {
	run, err := r.Head(ctx, u)
	if err != nil {
		return s, err
	}
	for s.first = run.First; s.head() < run.Head; {
		more, err := r.Read(ctx, u, s.head(), run.Head, 1<<20)
		if err != nil {
			return s, err
		}
		if len(more.Events) == 0 {
			return s, fmt.Errorf("the timeline of %s ends at %d, its head is %d", u, s.head(), run.Head)
		}
		for i, raw := range more.Events {
			s.add(more.From+events.Seq(i), raw)
		}
	}
	return s, nil
}

// follows says whether all timelines have what they had, and old ones nothing else.
func (l *look) follows(was *look) error {
	for u, before := range was.timelines {
		now := l.timelines[u]
		if err := now.follows(&before); err != nil {
			return fmt.Errorf("timeline of %s: %w", u, err)
		}
		if old(u) && now.head() != before.head() {
			return fmt.Errorf("the timeline of %s, to whom nobody writes, ends at %d, and ended at %d", u, now.head(), before.head())
		}
	}
	return nil
}

// The messages that stood there at first are of this many journals, and of so many users
// that each has about perUser entries.
const (
	oldJournals = 5
	oldUsers    = 400
	perUser     = 2 * 40_000 / oldUsers // of 40,000 messages
)

// fillOld gives a store messages of a thousand hours ago, and their timelines.
func fillOld(ctx context.Context, path string, messages int) error {
	s, err := pebble.Open(path, pebble.Options{})
	if err != nil {
		return err
	}
	clock, err := events.NewClock(func() time.Time { return time.Now().Add(-1000 * time.Hour) }, rand.Reader)
	if err == nil {
		err = fillJournals(ctx, s, clock, messages)
	}
	return errors.Join(err, s.Close())
}

func fillJournals(ctx context.Context, s *pebble.Store, clock *events.Clock, messages int) error {
	draw := mathrand.New(mathrand.NewPCG(1, 1))
	heads := make(map[events.User]events.Seq)
	var last events.User
	for n := range oldJournals {
		row, err := events.OpenJournal(ctx, s, s.Tag(), [16]byte{1, byte(n)})
		if err != nil {
			return err
		}
		const together = 400
		end := events.Offset(messages/oldJournals/together + 1)
		for at := events.Offset(1); at < end; at++ {
			var raws [][]byte
			for i := range together {
				a := draw.IntN(oldUsers)
				from, to := oldUser(a), oldUser(a+1+draw.IntN(oldUsers-1))
				e := events.Event{
					ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct(from, to), Sender: from, Device: "phone",
					Session: events.SessionID{byte(n)}, Number: events.Number(int(at)*together + i), Body: []byte("something that was said long ago"),
				}
				raws, last = append(raws, e.Encode()), to
				heads[from]++
				heads[to]++
			}
			if _, err := s.Append(ctx, row.Journal(), at, events.NewRecord(row.Journal(), at, raws)); err != nil {
				return err
			}
		}
		ended := events.Event{ID: clock.Next(), Kind: events.KindJournalEnded}
		if _, err := s.Append(ctx, row.Journal(), end, events.NewRecord(row.Journal(), end, [][]byte{ended.Encode()})); err != nil {
			return err
		}
		row.Ended = end
		if err := s.UpdateJournal(ctx, row); err != nil {
			return err
		}
	}
	return project(ctx, s, last, heads[last])
}

func oldUser(n int) events.User { return events.User(fmt.Sprint("old", n%oldUsers)) }

// project has timelines made until one has so many entries.
func project(ctx context.Context, s *pebble.Store, u events.User, head events.Seq) error {
	p, err := projections.NewProjector(projections.Config{
		Log: s, Journals: s, Checkpoints: s, Items: s, Meta: s.Meta(), Bus: new(local.Bus), Random: rand.Reader,
		Logger: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	reader := projections.NewReader(s, s.Meta())
	there := wait("old timelines", func(ctx context.Context) (bool, error) {
		run, err := reader.Head(ctx, u)
		return run.Head == head, err
	})
	err = there(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// damage damages half of the old timelines: the first items are gone, and of those that are
// left, but for the newest, one has another bit.
func damage(ctx context.Context, s wholeStore, l *look, draw *mathrand.Rand) error {
	for u, is := range l.timelines {
		if !old(u) || draw.IntN(2) == 0 || len(is.ends) < 3 {
			continue
		}
		t := projections.Timeline{Version: l.versions.Live, User: u}
		n := draw.IntN(len(is.ends) - 2)
		if err := s.DeleteItems(ctx, t, is.ends[n]); err != nil {
			return err
		}
		items, err := s.ReadItems(ctx, t, is.ends[n], 1, events.Strong)
		if err != nil {
			return err
		}
		items[0].Data[len(items[0].Data)/2] ^= 4
		if err := s.PutItems(ctx, items); err != nil {
			return err
		}
	}
	return nil
}
