package pebble

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"timberline/events"
	"timberline/events/fields"
	"timberline/migrations"
	"timberline/projections"
)

// Options say how a store is opened. Zero fields have the defaults named.
type Options struct {
	FS     vfs.FS    // default: the disk
	Shards uint32    // of a store that is created; default: 1
	Random io.Reader // for the ids of a store that is created; default: the system's
	Logger *slog.Logger
	// Metrics are told what the engine does; default: nobody is told.
	Metrics prometheus.Registerer
	// OnFatal is called when the disk refuses a write or a sync, of the log or in
	// the background: nothing can be acknowledged any more, and what was not is
	// lost. It is expected not to return, and must not use the store; the default
	// prints the error and exits.
	OnFatal func(error)
	// Restored says that the folder comes from a backup: it is opened for
	// migrations.Restore. Without, a store is refused whose restore has not ended.
	Restored bool
	// MustExist says that no store is to be made: a folder without is left as it is, and the
	// error wraps ErrNoStore.
	MustExist bool
	// TableBytes is from how many bytes on items that nobody waits for become a table of
	// their own when they are put; default: 16 MiB.
	TableBytes int
	// LeavePending says that migration steps are not to be applied: for who tells of
	// them. Nothing else may be done with such a store.
	LeavePending bool
}

// The sizes of Pebble, for a machine of two cores and a few gigabytes.
const (
	memTableSize = 64 << 20  // a flush every few hundred thousand messages
	cacheSize    = 128 << 20 // timelines' ends and recent records
)

// maxUnsynced bounds the batches on their way at a time. So one behind which that many
// begin was durable: see tail.go.
const maxUnsynced = 16

// Store is a storage engine: events.Log, events.Journals, projections.Checkpoints and
// projections.Items; and with projections.Upkeep and migrations.Store what is to be done
// with one that nothing else works on.
type Store struct {
	db    *pebble.DB
	o     Options
	lock  *pebble.Lock
	marks *markingFS
	// tableOptions are for reading a table without the database, tableWriter for writing one.
	tableOptions sstable.ReaderOptions
	tableWriter  sstable.WriterOptions
	dir          string
	meta         meta
	isNew        bool // it was made when it was opened
	rowKinds     rowKinds
	onFatal      func(error)

	// mu orders conditional writes: whoever holds it looks and then applies.
	// Syncs are waited for without it.
	mu      sync.Mutex
	highest map[string]uint64 // see taken; guarded by mu
	applied atomic.Uint64     // batches applied, or being applied
	// broken is why the log has failed first, nil if it has not: then nothing more is applied.
	broken atomic.Pointer[error]

	unsynced chan struct{} // an element for each batch on its way; whoever finds no room waits
	behind   chan struct{} // an element while somebody needs room for two; others wait
	bulk     chan struct{} // an element while somebody puts a table; others wait

	backingUp chan struct{} // an element while a backup is made

	waiting sync.Mutex
	durable uint64        // batches synced
	news    chan struct{} // closed when durable rises
}

// meta is what a store is.
type meta struct {
	format uint32
	id     events.StoreID
	shards uint32
	tag    [16]byte // the first 4 bytes are the edge's tag
	phase  migrations.Phase
}

// Fields lists the stored fields.
func (m *meta) Fields(v fields.Visitor) {
	fields.Uint(v, 1, "format", &m.format)
	fields.ID(v, 2, "store", &m.id)
	fields.Uint(v, 3, "shards", &m.shards)
	fields.ID(v, 4, "tag", &m.tag)
	fields.Uint(v, 5, "restoring", &m.phase)
}

// Open opens the store in a folder, and creates it if the folder is empty or does not
// exist. Only one process can have it open. In a folder with other things than a store, or
// with parts of one, nothing is created: the error wraps events.ErrCorrupt.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = exit
	}
	if o.TableBytes == 0 {
		o.TableBytes = tableBytes
	}
	if o.Shards > events.Slots {
		return nil, fmt.Errorf("open store %s: %d shards, want 1 to %d", dir, o.Shards, events.Slots)
	}
	s := &Store{dir: dir, o: o, onFatal: o.OnFatal, news: make(chan struct{}), highest: make(map[string]uint64), unsynced: make(chan struct{}, maxUnsynced), behind: make(chan struct{}, 1), bulk: make(chan struct{}, 1), backingUp: make(chan struct{}, 1)}
	if err := s.open(o); err != nil {
		return nil, errors.Join(openError(dir, err), s.Close())
	}
	s.measure(o.Metrics)
	return s, nil
}

func (s *Store) open(o Options) (err error) {
	s.marks = &markingFS{FS: o.FS, dir: s.dir, failed: s.breaks, mark: readMark(o.FS, s.dir)}
	po := s.options(o)
	po.EnsureDefaults()
	s.tableOptions = po.MakeReaderOptions()
	s.tableWriter = po.MakeWriterOptions(0, po.FormatMajorVersion.MaxTableFormat())
	in, err := s.enter()
	if err != nil {
		return err
	}
	if err := checkLogs(o.FS, s.dir, s.marks.mark); err != nil {
		return err
	}
	if _, err := checkTails(o.FS, s.dir, s.marks.mark); err != nil {
		return err
	}
	po.Lock = s.lock
	po.ErrorIfNotExists = o.MustExist || in == store
	if s.db, err = pebble.Open(s.dir, po); err != nil {
		if in == making && errors.Is(err, pebble.ErrDBDoesNotExist) {
			return ErrNoStore
		}
		return foundError(err)
	}
	if s.meta, err = s.readMeta(); err != nil {
		return err
	}
	if err := s.check(in); err != nil {
		return err
	}
	s.rowKinds.read(s)
	copied, err := s.isCopy()
	if copied {
		s.meta.phase = migrations.Copied
	}
	if err != nil || o.LeavePending {
		return err
	}
	if err := migrations.Up(context.Background(), s, time.Now, nil); err != nil {
		return err
	}
	if s.meta.phase != migrations.Whole && !o.Restored {
		return migrations.ErrRestoring
	}
	return removeFile(o.FS, o.FS.PathJoin(s.dir, bulkFile))
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "timberline:", err)
	os.Exit(1)
}

func (s *Store) options(o Options) *pebble.Options {
	po := &pebble.Options{
		FS:                          s.marks,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      logger{o.Logger, s},
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       maxSublevels,
		CacheSize:                   cacheSize,
		EventListener: &pebble.EventListener{
			BackgroundError: s.giveUp,
			DataCorruption: func(i pebble.DataCorruptionInfo) { // and who reads there gets an error
				o.Logger.Error("stored data is damaged", "file", i.Path, "err", corrupt(i.Details))
			},
		},
	}
	// A table overlaps with what is in memory only if its version was put to otherwise just
	// before: that is flushed then, and no table is ever part of what the log holds.
	po.Experimental.DisableIngestAsFlushable = func() bool { return true }
	for i := range po.Levels {
		// A row that is put is mostly new, and a filter knows without reading a block.
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return po
}

// logger passes on what Pebble says, and obeys when it gives up.
type logger struct {
	log   *slog.Logger
	store *Store
}

// Infof drops routine messages: compactions, flushes.
func (l logger) Infof(string, ...any) {}

// Errorf logs.
func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "msg", fmt.Sprintf(format, args...))
}

// Fatalf ends the process by Options.OnFatal.
func (l logger) Fatalf(format string, args ...any) {
	l.store.giveUp(fmt.Errorf(format, args...))
}

// giveUp ends the process. Of a flush that failed Pebble would try the next one
// at once, and so on without end.
func (s *Store) giveUp(err error) {
	if pebble.IsCorruptionError(err) {
		s.onFatal(fmt.Errorf("%w: %w", events.ErrFatal, openError(s.dir, corrupt(err))))
		return
	}
	what := "check the disk (full? failing?)"
	switch {
	case errors.Is(err, os.ErrPermission):
		what = "give this user the right to read and write there"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		what = "let the process open more files (ulimit -n)"
	}
	s.onFatal(fmt.Errorf("%w: data folder %s: %w; what was acknowledged is safe: %s, then start again", events.ErrFatal, s.dir, err, what))
}

func openError(dir string, err error) error {
	switch {
	case isLocked(err):
		return fmt.Errorf("data folder %s is in use by another process: stop that one first, or choose another folder (%w)", dir, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("data folder %s cannot be used: give this user the right to write there, or choose another folder (%w)", dir, err)
	case isFull(err):
		return fmt.Errorf("data folder %s: the disk is full: make room, then start again; nothing acknowledged is lost (%w)", dir, err)
	case errors.Is(err, errPieces):
		return fmt.Errorf("data folder %s: %w; of a copy that was interrupted, copy it again, or restore a backup; what never was a store is in the way: choose another folder", dir, err)
	case errors.Is(err, errUndescribed):
		return fmt.Errorf("data folder %s: %w; restore the folder from a copy; if nothing was ever stored in it, remove it", dir, err)
	case errors.Is(err, events.ErrFormat):
		return fmt.Errorf("data folder %s: %w: use the version of timberline that wrote it, or a newer one", dir, err)
	case errors.Is(err, events.ErrCorrupt):
		return fmt.Errorf("data folder %s: %w: check the disk, and restore the folder from a copy", dir, err)
	}
	return fmt.Errorf("open data folder %s: %w", dir, err)
}

// foundError says what is wrong if Pebble does not open what it finds.
func foundError(err error) error {
	says := func(text string) bool { return strings.Contains(err.Error(), text) }
	switch {
	case says("format major version"):
		return fmt.Errorf("%w: %w", events.ErrFormat, err)
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist), says("malformed manifest"), says("object size mismatch"), says("invalid key=value"), says("name from file"), errors.Is(err, pebble.ErrDBNotPristine):
		return corrupt(err)
	}
	return err
}

// Meta returns what the store is.
func (s *Store) Meta() projections.Meta {
	return projections.Meta{Store: s.meta.id, Shards: s.meta.shards}
}

// Tag returns the tag of the one edge that works on this store.
func (s *Store) Tag() events.EdgeTag { return events.EdgeTag(s.meta.tag[:4]) }

// Close closes the store. Nothing may use it any more.
func (s *Store) Close() error {
	var err error
	if s.db != nil {
		err = errors.Join(s.markEnd(), s.db.Close())
	}
	s.marks.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("close data folder %s: %w", s.dir, err)
	}
	return nil
}

// markEnd writes empty batches, so that damage to those before them can be told from an
// end torn by a crash: see tail.go.
func (s *Store) markEnd() error {
	for range maxUnsynced {
		if s.broken.Load() != nil {
			return nil
		}
		if err := s.db.LogData(nil, pebble.NoSync); err != nil { // Close syncs them
			return err
		}
	}
	return nil
}

// get returns a copy of a value; the error wraps events.ErrNotFound if there is
// none.
func (s *Store) get(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, events.ErrNotFound
	}
	if err != nil {
		return nil, readError(err)
	}
	value = append([]byte(nil), value...)
	return value, closer.Close()
}

func readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return corrupt(err)
	}
	return fmt.Errorf("read: %w", err)
}

// corrupt returns what Pebble says of damage, without what it has behind that for its
// own developers.
func corrupt(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%w: %s", events.ErrCorrupt, text)
}

// scan calls visit with each key and value from a key on, below end, until it
// returns false. They are valid during the call only.
func (s *Store) scan(from, end []byte, visit func(key, value []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: end})
	if err != nil {
		return readError(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(readError(err), it.Close())
		}
		if !visit(it.Key(), value) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return readError(err)
	}
	return nil
}

// last returns copies of the last key and value within a prefix; the error is
// events.ErrNotFound if there is none.
func (s *Store) last(prefix []byte) (key, value []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, nil, readError(err)
	}
	found := it.Last()
	if found {
		value, err = it.ValueAndErr()
		key, value = append([]byte(nil), it.Key()...), append([]byte(nil), value...)
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return nil, nil, readError(err)
	}
	if !found {
		return nil, nil, events.ErrNotFound
	}
	return key, value, nil
}
