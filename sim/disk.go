package sim

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/projections"
)

// dataFolder is where a server keeps its data on its disk.
const dataFolder = "data"

// A disk is the disk of one boot: syncs of the write-ahead log take their time, so
// that a crash finds some writes visible and not durable. For a while it may be full.
//
// Only syncs of that log may wait: nobody holds a lock during one. As the store is
// opened and closed they do not, because there some wait for a mutex, and virtual
// time stands still for them.
type disk struct {
	vfs.FS // as the process uses it
	mem    *vfs.MemFS
	draws  *draws
	name   string        // of the boot, which it draws for alone
	most   time.Duration // that a sync takes
	full   func() bool   // nothing more is written, once the store is open
	turned atomic.Bool   // something was not written for want of room
	opened atomic.Bool   // the store is
	slow   atomic.Bool   // syncs wait
	// atSync is called as a sync begins, with how long it will take, if it is
	// set. It is taken by the call.
	atSync atomic.Pointer[func(time.Duration)]
}

// torn is what a crash did to a disk: how many bytes of logs were not synced, and
// how many of them are lost.
type torn struct{ unsynced, lost int }

// Create implements vfs.FS.
func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap(name, f), err
}

// ReuseForWrite implements vfs.FS.
func (d *disk) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, name, c)
	return d.wrap(name, f), err
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func (d *disk) wrap(name string, f vfs.File) vfs.File {
	switch {
	case f == nil:
		return f
	case isLog(name) && strings.HasPrefix(name, dataFolder+"/"): // not those of a backup
		return &logFile{limited: limited{f, d}}
	default:
		return limited{f, d}
	}
}

// A limited file takes no more data than there is room for.
type limited struct {
	vfs.File
	disk *disk
}

// Write implements vfs.File.
func (f limited) Write(data []byte) (int, error) {
	return f.some(data, f.File.Write)
}

// WriteAt implements vfs.File.
func (f limited) WriteAt(data []byte, at int64) (int, error) {
	return f.some(data, func(data []byte) (int, error) { return f.File.WriteAt(data, at) })
}

// some writes as much as there is room for: if the disk is full, a part that is
// drawn.
func (f limited) some(data []byte, write func([]byte) (int, error)) (int, error) {
	if !f.disk.opened.Load() || !f.disk.full() {
		return write(data)
	}
	f.disk.turned.Store(true)
	part := f.disk.draws.next(f.disk.name + " is full").IntN(len(data) + 1)
	n, err := write(data[:part])
	return n, errors.Join(err, syscall.ENOSPC)
}

// A logFile is a write-ahead log. Its syncs wait, as long as it is the boot's first and
// short: a long one the store may be about to close, with locks held, and what it does then
// at one instant, in goroutines of its own, is to take no time of the next one's syncs.
type logFile struct {
	limited
	written atomic.Int64
}

// maxSlow is how long a log with slow syncs is, in bytes. The store begins another one
// after some 150 KiB at least: when the first table in its memory has its 256 KiB.
const maxSlow = 96 << 10

// Write implements vfs.File.
func (f *logFile) Write(data []byte) (int, error) {
	n, err := f.limited.Write(data)
	f.written.Add(int64(n))
	return n, err
}

// Sync implements vfs.File.
func (f *logFile) Sync() error {
	f.wait()
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *logFile) SyncData() error {
	f.wait()
	return f.File.SyncData()
}

func (f *logFile) wait() {
	d := f.disk
	if f.written.Load() > maxSlow {
		d.slow.Store(false)
	}
	if !d.slow.Load() {
		return
	}
	takes := between(d.draws.next(d.name+" sync"), 10*time.Microsecond, d.most)
	if begins := d.atSync.Swap(nil); begins != nil {
		(*begins)(takes)
	}
	time.Sleep(takes)
}

// ready has no sync of the log wait any more if items are put as a table: what is in memory of
// their timelines is flushed before, and the log closed for that with locks held.
func (d *disk) ready(items []projections.Stored, tables int) {
	size := 0
	for i := range items {
		if !items[i].Quiet {
			return
		}
		size += len(items[i].Data)
	}
	if tables > 0 && size >= tables {
		d.hurry()
	}
}

// hurry has no sync of the log wait any more, and waits for one that has begun.
func (d *disk) hurry() {
	d.slow.Store(false)
	time.Sleep(d.most)
}

// crash returns what is left of the disk when the machine dies now: all that was
// synced, and of what was written to a log behind that as much as is drawn.
func (d *disk) crash() (left *vfs.MemFS, t torn, err error) {
	left = d.mem.CrashClone(vfs.CrashCloneCfg{})
	names, err := left.List(dataFolder)
	if err != nil {
		return left, t, nil // it died before it had a folder
	}
	for _, name := range slices.Sorted(slices.Values(names)) {
		if !isLog(name) {
			continue
		}
		path := d.mem.PathJoin(dataFolder, name)
		tail, at, err := d.tail(left, path)
		if err != nil {
			return nil, t, err
		}
		if len(tail) == 0 {
			continue // how many such files there are depends on Pebble's cleaner
		}
		keep := 0
		if r := d.draws.next("crash"); chance(r, 0.5) {
			keep = r.IntN(len(tail) + 1)
		}
		t.unsynced += len(tail)
		t.lost += len(tail) - keep
		if err := extend(left, path, at, tail[:keep]); err != nil {
			return nil, t, err
		}
	}
	return left, t, nil
}

// written returns what is on the disk when the process dies now, and the machine goes
// on: all that was written.
func (d *disk) written() *vfs.MemFS {
	return d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: d.draws.next(d.name + " ends")})
}

// tail returns the end of a log that what is left lacks, and where it begins.
func (d *disk) tail(left *vfs.MemFS, path string) (data []byte, at int64, err error) {
	whole, err := read(d.mem, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil // it was removed, but that was not synced
	}
	synced, lacks := read(left, path)
	if err := errors.Join(err, lacks); err != nil {
		return nil, 0, err
	}
	n := min(len(synced), len(whole))
	return whole[n:], int64(n), nil
}

func read(from vfs.FS, path string) ([]byte, error) {
	f, err := from.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// extend writes data to a file at a place, durably.
func extend(on vfs.FS, path string, at int64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	f, err := on.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		return err
	}
	return f.Sync()
}
