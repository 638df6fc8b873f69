package replay

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	raw "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"timberline/bus"
	"timberline/bus/local"
	"timberline/events"
	"timberline/projections"
	"timberline/store/pebble"
)

// Config says what is measured.
type Config struct {
	Folder   string   // in which the stores are made
	Messages int      // in the log
	Users    int      // who write to each other, all pairs as likely
	Bodies   [][]byte // of the messages, one after the other, again and again
	Progress func(string)
}

// A Report says how long things took.
type Report struct {
	Messages int    `json:"messages"`
	Users    int    `json:"users"`
	Items    uint64 `json:"items"`
	Bytes    uint64 `json:"bytes"` // of the items

	FillSeconds    float64 `json:"fill_seconds"`    // the log
	ProjectSeconds float64 `json:"project_seconds"` // by a projector
	RebuildSeconds float64 `json:"rebuild_seconds"`
	DropSeconds    float64 `json:"drop_seconds"`
	VerifySeconds  float64 `json:"verify_seconds"`
	BulkSeconds    float64 `json:"bulk_seconds"` // Pebble alone: the same items, in batches made before

	// Ratio is BulkSeconds by RebuildSeconds.
	Ratio   float64 `json:"ratio"`
	PeakMiB uint64  `json:"peak_mib"` // of the process's memory while it rebuilt and verified
}

// Run fills a store and measures. If a rebuilt timeline is not as it was, that is an error.
func Run(ctx context.Context, c Config) (*Report, error) {
	r := &run{cfg: c, report: &Report{Messages: c.Messages, Users: c.Users}}
	return r.report, r.all(ctx)
}

// Fill makes a store in the folder, with the log of which Run makes timelines again, and
// the timelines.
func Fill(ctx context.Context, c Config) (err error) {
	r := &run{cfg: c, report: new(Report)}
	if r.store, err = pebble.Open(filepath.Join(c.Folder, "store"), pebble.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()
	if err := r.fill(ctx); err != nil {
		return fmt.Errorf("fill the log: %w", err)
	}
	if err := r.project(ctx); err != nil {
		return fmt.Errorf("project it: %w", err)
	}
	return nil
}

type run struct {
	cfg    Config
	report *Report
	store  *pebble.Store
}

func (r *run) all(ctx context.Context) (err error) {
	if r.store, err = pebble.Open(filepath.Join(r.cfg.Folder, "store"), pebble.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()
	for _, step := range []struct {
		name    string
		do      func(context.Context) error
		seconds *float64
	}{
		{"fill the log", r.fill, &r.report.FillSeconds},
		{"project it", r.project, &r.report.ProjectSeconds},
		{"rebuild", r.rebuild, &r.report.RebuildSeconds},
		{"drop the old timelines", r.drop, &r.report.DropSeconds},
		{"verify", r.verify, &r.report.VerifySeconds},
		{"write the same items in bulk", r.bulk, &r.report.BulkSeconds},
	} {
		if err := rest(ctx); err != nil {
			return err
		}
		r.cfg.Progress(step.name)
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if *step.seconds == 0 { // else it has measured itself
			*step.seconds = time.Since(began).Seconds()
		}
	}
	r.report.Ratio = r.report.BulkSeconds / r.report.RebuildSeconds
	return nil
}

// fill writes the log: a journal, in records as large as they may be.
func (r *run) fill(ctx context.Context) error {
	clock, err := events.NewClock(time.Now, rand.Reader)
	if err != nil {
		return err
	}
	var writer [16]byte
	if _, err := rand.Read(writer[:]); err != nil {
		return err
	}
	row, err := events.OpenJournal(ctx, r.store, r.store.Tag(), writer)
	if err != nil {
		return err
	}
	draw := mathrand.New(mathrand.NewPCG(1, 1))
	at := events.Offset(1)
	var raws [][]byte
	size := 0
	flush := func() error {
		_, err := r.store.Append(ctx, row.Journal(), at, events.NewRecord(row.Journal(), at, raws))
		at, raws, size = at+1, raws[:0], 0
		return err
	}
	for n := range r.cfg.Messages {
		a, b := user(draw.IntN(r.cfg.Users)), user(draw.IntN(r.cfg.Users))
		e := events.Event{
			ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct(a, b), Sender: a, Device: "phone",
			Number: events.Number(n + 1), Body: r.cfg.Bodies[n%len(r.cfg.Bodies)],
		}
		copy(e.Session[:], writer[:])
		raw := e.Encode()
		if size+events.RecordSize(raw) > events.MaxRecordBytes-256 || 2*len(raws) >= events.MaxRecordRecipients-2 {
			if err := flush(); err != nil {
				return err
			}
		}
		raws, size = append(raws, raw), size+events.RecordSize(raw)
	}
	return flush()
}

func user(n int) events.User { return events.User("user" + strconv.Itoa(n)) }

// project has a projector make the timelines.
func (r *run) project(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	entries, want := 0, r.entries()
	p, err := projections.NewProjector(projections.Config{
		Log: r.store, Journals: r.store, Checkpoints: r.store, Items: r.store, Meta: r.store.Meta(), Bus: new(local.Bus),
		Random: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		Publish: func(ps []bus.Push) {
			for _, p := range ps {
				entries += len(p.Events)
			}
			if entries >= want {
				stop()
			}
		},
	})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// entries returns how many entries the messages come to: one for whoever writes to
// themselves, else two.
func (r *run) entries() (n int) {
	draw := mathrand.New(mathrand.NewPCG(1, 1))
	for range r.cfg.Messages {
		if n++; draw.IntN(r.cfg.Users) != draw.IntN(r.cfg.Users) {
			n++
		}
	}
	return n
}

// rebuild makes the timelines again, beside those that are read.
func (r *run) rebuild(ctx context.Context) error {
	rebuild := projections.Rebuild{Replay: r.replay(1)}
	rebuild.Told = func(p projections.ReplayProgress) {
		r.report.Items = p.Items
		r.report.PeakMiB = max(r.report.PeakMiB, residentMiB())
	}
	debug.FreeOSMemory()
	_, err := rebuild.Run(ctx)
	return err
}

func (r *run) replay(v projections.Version) projections.Replay {
	return projections.Replay{Store: r.store, Meta: r.store.Meta(), Version: v, Empty: v > 0}
}

// drop deletes the timelines from before: to verify them is not what is measured.
func (r *run) drop(ctx context.Context) error {
	old := r.replay(0)
	return old.Drop(ctx, r.store)
}

// verify holds what was rebuilt, which is live by now, against log and checkpoints.
func (r *run) verify(ctx context.Context) error {
	var first error
	v := projections.Verification{
		Store: r.store, Meta: r.store.Meta(),
		Found: func(f projections.Finding) {
			if first == nil {
				first = fmt.Errorf("%s: expected %s, found %s", f.Where, f.Expected, f.Found)
			}
		},
		Told: func(projections.VerifyProgress) { r.report.PeakMiB = max(r.report.PeakMiB, residentMiB()) },
	}
	done, err := v.Run(ctx)
	if err == nil && done.Items != r.report.Items {
		err = fmt.Errorf("%d items were verified, %d rebuilt", done.Items, r.report.Items)
	}
	return errors.Join(err, first)
}

// bulkBatch is how many bytes of items are a batch of Pebble's: some to a memtable.
const bulkBatch = 8 << 20

// bulk writes the items into another Pebble, in large batches that are sorted before, and
// measures what that alone takes. The batches wait in a file.
func (r *run) bulk(ctx context.Context) (err error) {
	o := &raw.Options{ // the store's
		FormatMajorVersion: raw.FormatNewest, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4, L0StopWritesThreshold: 48, CacheSize: 128 << 20, Logger: silent{},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := raw.Open(filepath.Join(r.cfg.Folder, "bulk"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	file, err := os.Create(filepath.Join(r.cfg.Folder, "batches"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	replay := r.replay(2)
	replay.PutBytes = bulkBatch
	replay.Store = &batches{r.store, db, file, r.report}
	if err := replay.Run(ctx); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	began := time.Now()
	for err == nil {
		err = commitNext(db, file)
	}
	if err != io.EOF {
		return err
	}
	err = db.LogData(nil, raw.Sync)
	r.report.BulkSeconds = time.Since(began).Seconds()
	return err
}

// A batches is a store that puts items nowhere but into a file, as batches of Pebble, each
// behind its length. Keys are in order within a batch, as those are that the store writes.
type batches struct {
	projections.Store
	db     *raw.DB
	file   *os.File
	report *Report
}

// PutItems implements projections.Items.
func (b *batches) PutItems(_ context.Context, items []projections.Stored) error {
	sorted := slices.SortedFunc(slices.Values(items), func(x, y projections.Stored) int {
		return cmp.Or(cmp.Compare(x.User, y.User), cmp.Compare(x.Last, y.Last))
	})
	batch := b.db.NewBatch()
	for _, i := range sorted {
		key := binary.BigEndian.AppendUint64(append([]byte(i.User), 0), uint64(i.Last))
		if err := batch.Set(key, i.Data, nil); err != nil {
			return err
		}
		b.report.Bytes += uint64(len(i.Data))
	}
	data := batch.Repr()
	if _, err := b.file.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data)))); err != nil {
		return err
	}
	_, err := b.file.Write(data)
	return errors.Join(err, batch.Close())
}

// commitNext commits the next batch of a file; the error is io.EOF if there is none.
func commitNext(db *raw.DB, file io.Reader) error {
	var size [4]byte
	if _, err := io.ReadFull(file, size[:]); err != nil {
		return err
	}
	data := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(file, data); err != nil {
		return err
	}
	batch := db.NewBatch()
	if err := batch.SetRepr(data); err != nil {
		return err
	}
	return batch.Commit(raw.NoSync)
}

// silent is a logger of Pebble's.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// rest waits until Pebble has compacted what the step before has left to it, which is no
// part of the next one: until the process takes hardly any processor time, or two minutes.
func rest(ctx context.Context) error {
	const look, little, most = 500 * time.Millisecond, 5, 2 * time.Minute
	last := processorTicks()
	for end := time.Now().Add(most); time.Now().Before(end); {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
		now := processorTicks()
		if now-last <= little {
			return nil
		}
		last = now
	}
	return nil
}

// processorTicks returns how many hundredths of a second of processor time the process has
// taken, where the system tells.
func processorTicks() uint64 {
	stat, _ := os.ReadFile("/proc/self/stat")
	_, fields, _ := strings.Cut(string(stat), ") ")
	words := strings.Fields(fields)
	if len(words) < 13 {
		return 0
	}
	user, _ := strconv.ParseUint(words[11], 10, 64)
	system, _ := strconv.ParseUint(words[12], 10, 64)
	return user + system
}

// residentMiB returns the memory of the process that is in RAM, where the system tells.
func residentMiB() uint64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kb, is := strings.CutPrefix(line, "VmRSS:"); is {
			n, _ := strconv.ParseUint(strings.Fields(kb)[0], 10, 64)
			return n >> 10
		}
	}
	return 0
}
