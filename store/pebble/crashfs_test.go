package pebble

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A crashFS is a file system on which a crash can come before or after any change. It
// leaves what was synced, or all changes of folders, as a file system with a journal
// does, and of what was written to files and not synced whatever a fate says.
//
// Changes come one after the other; a sync takes a while before it holds up others, so
// that writes gather.
type crashFS struct {
	vfs.FS
	t   *testing.T
	mem *vfs.MemFS

	mu    sync.Mutex
	files map[string]*crashData
	// at is called at each change, with mu held. It may call crash.
	at func(what, name string)
}

// crashData is what is in a file, and what of it was synced. What a sync of a part of a
// file says counts for nothing.
type crashData struct{ now, synced []byte }

// A fate is what a crash leaves of a file of which not all is synced.
type fate func(f *crashData) []byte

func newCrashFS(t *testing.T, on *vfs.MemFS) *crashFS {
	return &crashFS{FS: on, t: t, mem: on, files: make(map[string]*crashData), at: func(string, string) {}}
}

// watch has at called from now on.
func (c *crashFS) watch(at func(what, name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// crash returns what is left if a crash comes now. The caller holds mu.
func (c *crashFS) crash(survives fate) *vfs.MemFS {
	left := c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
	for name, f := range c.files {
		if bytes.Equal(f.now, f.synced) {
			continue
		}
		if err := replace(left, name, survives(f)); err != nil {
			c.t.Error(err)
		}
	}
	return left
}

// ways returns what may be left if a crash comes now: of what is not synced a part of each
// file, nothing, or half of it. The caller holds mu.
func (c *crashFS) ways(r *rand.Rand, how string) []left {
	return []left{
		{fs: c.crash(torn(r)), how: how}, {fs: c.mem.CrashClone(vfs.CrashCloneCfg{}), how: how + ", nothing unsynced is left"},
		{fs: c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r}), how: how + ", half of it is"},
	}
}

// crashBlock is how much of a file survives or is lost together.
const crashBlock = 4096

// blocks is a fate: blocks survive in any order.
func blocks(survives func(at int) bool) fate {
	return func(f *crashData) []byte {
		data := bytes.Clone(f.synced)
		for at := 0; at < len(f.now); at += crashBlock {
			if survives(at) {
				data = put(data, at, f.now[at:min(at+crashBlock, len(f.now))])
			}
		}
		return data
	}
}

// torn is a fate: what stands before a byte survives.
func torn(r *rand.Rand) fate {
	return func(f *crashData) []byte {
		first := 0
		for first < min(len(f.now), len(f.synced)) && f.now[first] == f.synced[first] {
			first++
		}
		return put(bytes.Clone(f.synced), 0, f.now[:first+r.IntN(len(f.now)-first+1)])
	}
}

// put writes into data, which becomes longer if need be.
func put(data []byte, at int, more []byte) []byte {
	if lacks := at + len(more) - len(data); lacks > 0 {
		data = append(data, make([]byte, lacks)...)
	}
	copy(data[at:], more)
	return data
}

// replace gives a file other contents.
func replace(fs vfs.FS, name string, data []byte) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(slices.Clone(data)); err != nil { // which it may change
		return err
	}
	return f.Sync()
}

// change makes a change.
func (c *crashFS) change(what, name string, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(what, name)
	return do()
}

func (c *crashFS) Create(name string, k vfs.DiskWriteCategory) (f vfs.File, err error) {
	return f, c.change("creating", name, func() error {
		if f, err = c.FS.Create(name, k); err != nil {
			return err
		}
		c.files[name] = new(crashData)
		f = &crashFile{File: f, name: name, data: c.files[name], fs: c}
		return nil
	})
}

func (c *crashFS) ReuseForWrite(from, name string, k vfs.DiskWriteCategory) (f vfs.File, err error) {
	return f, c.change("reusing", name, func() error {
		if f, err = c.FS.ReuseForWrite(from, name, k); err != nil {
			return err
		}
		c.renamed(from, name)
		f = &crashFile{File: f, name: name, data: c.files[name], fs: c}
		return nil
	})
}

func (c *crashFS) Rename(from, to string) error {
	return c.change("renaming", to, func() error {
		defer c.renamed(from, to)
		return c.FS.Rename(from, to)
	})
}

// renamed notes that a file, or a folder with all in it, has another name.
func (c *crashFS) renamed(from, to string) {
	for name, data := range c.files {
		if rest, is := strings.CutPrefix(name, from); is && (rest == "" || rest[0] == '/') {
			c.files[to+rest] = data
			delete(c.files, name)
		}
	}
}

func (c *crashFS) Remove(name string) error {
	return c.change("removing", name, func() error {
		delete(c.files, name)
		return c.FS.Remove(name)
	})
}

func (c *crashFS) Unwrap() vfs.FS { return c.FS }

// A crashFile is a file that is written from its beginning.
type crashFile struct {
	vfs.File
	name string
	data *crashData
	end  int
	fs   *crashFS
}

func (f *crashFile) Write(p []byte) (n int, err error) {
	return n, f.fs.change("writing", f.name, func() error {
		f.data.now = put(f.data.now, f.end, p)
		f.end += len(p)
		n, err = f.File.Write(p)
		return err
	})
}

func (f *crashFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *crashFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *crashFile) sync(do func() error) error {
	time.Sleep(100 * time.Microsecond)
	return f.fs.change("syncing", f.name, func() error {
		f.data.synced = bytes.Clone(f.data.now)
		return do()
	})
}
