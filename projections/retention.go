package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"timberline/events"
)

// RetentionConfig says what of a store stays for how long. Zero fields have the defaults
// named.
type RetentionConfig struct {
	Store Whole
	Meta  Meta
	// Keep is how many entries of each timeline stay at least, and OlderThan how old what
	// goes is at least; with both, both hold. One of them is needed.
	Keep      uint64
	OlderThan time.Duration
	Every     time.Duration // how often the store is trimmed; default: 24 h
	Rate      float64       // see Trim; default: 10,000
	Now       func() time.Time
	Random    io.Reader // for the jitter between tries
	Logger    *slog.Logger
	Metrics   prometheus.Registerer // default: nobody is told
}

// A Retention trims a store every so often: timelines, then the journals that all of them
// have outlived. Where many processes have one, one of them does it at a time: the others
// see when it was begun last. If two begin at once both do the same, which costs reads.
type Retention struct {
	cfg    RetentionConfig
	jitter *rand.Rand

	done, failed, entries, journals prometheus.Counter
}

const (
	defaultTrimEvery = 24 * time.Hour
	defaultTrimRate  = 10_000
	// trimFirst is how long it waits after a start, and after a first error, if that is no
	// more than a tenth of Every.
	trimFirst = time.Minute
)

// NewRetention returns one for Run.
func NewRetention(c RetentionConfig) (*Retention, error) {
	switch {
	case c.OlderThan < 0 || c.Every < 0 || !(c.Rate >= 0):
		return nil, fmt.Errorf("retention config: OlderThan is %v, Every %v, Rate %v: want none below 0", c.OlderThan, c.Every, c.Rate)
	case c.Keep == 0 && c.OlderThan == 0:
		return nil, errors.New("retention config: neither Keep nor OlderThan says what stays")
	}
	c.Every, c.Rate = cmp.Or(c.Every, defaultTrimEvery), cmp.Or(c.Rate, defaultTrimRate)
	var seed [32]byte
	if _, err := io.ReadFull(c.Random, seed[:]); err != nil {
		return nil, fmt.Errorf("seed the retention: %w", err)
	}
	f := promauto.With(c.Metrics)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "timberline", Subsystem: "retention", Name: name, Help: help})
	}
	return &Retention{
		cfg: c, jitter: rand.New(rand.NewChaCha8(seed)),
		done:     counter("trims_total", "Times that the whole store was trimmed."),
		failed:   counter("trims_failed_total", "Times that trimming the store failed; it is tried again."),
		entries:  counter("entries_trimmed_total", "Entries of timelines that cannot be read any more."),
		journals: counter("journals_removed_total", "Journals removed from the log."),
	}, nil
}

// Run trims until ctx ends, and then returns nil. What fails is told in the log and tried
// again: a store that cannot be trimmed serves all the same.
func (r *Retention) Run(ctx context.Context) error {
	first := min(trimFirst, r.cfg.Every/10)
	wait, pause := first, first
	begun := false // by this process, and not done yet
	for rest := time.NewTimer(r.spread(wait)); ; rest.Reset(r.spread(wait)) {
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return nil
		}
		var err error
		if !begun {
			if wait, err = r.due(ctx); err == nil && wait > 0 {
				continue
			}
		}
		if err == nil {
			begun = true
			err = r.trim(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.failed.Inc()
			r.cfg.Logger.Warn("the store could not be trimmed; trying again", "err", err)
			wait = pause
			pause = min(2*pause, r.cfg.Every)
		default:
			r.done.Inc()
			begun, wait, pause = false, r.cfg.Every, first
		}
	}
}

// spread returns a time and up to a tenth more, so that not all processes come at once.
func (r *Retention) spread(d time.Duration) time.Duration {
	return d + time.Duration(r.jitter.Int64N(int64(d/10)+1))
}

// The row that says when the store was trimmed last: its checkpoint is the time, in seconds.
const (
	retentionSpace = "retention"
	retentionKey   = "begun"
)

// due returns how long it is until the store is to be trimmed; if that is now it says so to
// others. A time to come, by a clock that was wrong, does not count.
func (r *Retention) due(ctx context.Context) (time.Duration, error) {
	row, err := r.cfg.Store.GetRow(ctx, retentionSpace, retentionKey)
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return 0, err
	}
	now := r.cfg.Now()
	if ago := now.Sub(time.Unix(int64(row.Checkpoint), 0)); ago >= 0 && ago < r.cfg.Every {
		return r.cfg.Every - ago, nil
	}
	return 0, r.cfg.Store.PutRows(ctx, []Row{{Space: retentionSpace, Key: retentionKey, Checkpoint: CheckpointNumber(now.Unix())}})
}

// trim trims the store once.
func (r *Retention) trim(ctx context.Context) error {
	t := Trim{Store: r.cfg.Store, Meta: r.cfg.Meta, Keep: r.cfg.Keep, Rate: r.cfg.Rate}
	if r.cfg.OlderThan > 0 {
		t.Before = r.cfg.Now().Add(-r.cfg.OlderThan)
	}
	p, err := t.Run(ctx)
	r.entries.Add(float64(p.Entries))
	if err != nil {
		return err
	}
	gone, err := t.TrimJournals(ctx)
	r.journals.Add(float64(len(gone)))
	if err != nil {
		return err
	}
	r.cfg.Logger.Info("trimmed the store", "timelines", p.Users, "trimmed", p.Trimmed, "entries", p.Entries, "journals", len(gone))
	return nil
}
