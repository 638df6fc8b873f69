package pebble

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A mark says up to which byte the newest logs and the manifest of a folder are durable.
// It stands in a file of its own (markFile), so that a log that was cut off, or damaged
// behind which nothing follows, can be told from one that a crash has torn:
//
//	0          8         16        …    80        84
//	+----------+---------+---------+----+---------+
//	| manifest | durable | 4 × the same | CRC-32C |
//	|  number  |  up to  |  of the logs |         |
//	+----------+---------+---------+----+---------+
//
// It is written after each sync and synced only now and then, so a crash of the machine may
// leave an older one: that says less, and nothing wrong. A mark that cannot be read, or
// written, says nothing.
type mark struct {
	manifest extent
	logs     [4]extent // the newest first: so many memtables may wait for their flush
}

// An extent is up to which byte a file is durable. Its number is 0 if there is none.
type extent struct{ number, durable uint64 }

const (
	markFile = "durable"
	markSize = 5*16 + 4
)

func (m *mark) encode() []byte {
	b := make([]byte, 0, markSize)
	for _, e := range append([]extent{m.manifest}, m.logs[:]...) {
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, e.number), e.durable)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMark(b []byte) (m mark, whole bool) {
	if len(b) != markSize || crc32.Checksum(b[:markSize-4], castagnoli) != binary.LittleEndian.Uint32(b[markSize-4:]) {
		return mark{}, false
	}
	next := func() (e extent) {
		e = extent{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		b = b[16:]
		return e
	}
	m.manifest = next()
	for i := range m.logs {
		m.logs[i] = next()
	}
	return m, true
}

// durable returns up to which byte a file is known to be durable.
func (m *mark) durable(f markedFile) uint64 {
	if !f.isLog {
		if m.manifest.number == f.number {
			return m.manifest.durable
		}
		return 0
	}
	for _, e := range m.logs {
		if e.number == f.number {
			return e.durable
		}
	}
	return 0
}

// tail returns what is known of a file before it is read.
func (m *mark) tail(f markedFile) tail {
	return tail{isLog: f.isLog, number: uint32(f.number), durable: m.durable(f)}
}

// note takes in that a file is durable up to a byte.
func (m *mark) note(f markedFile, durable uint64) {
	if !f.isLog {
		m.manifest = extent{f.number, durable}
		return
	}
	for i := range m.logs {
		if m.logs[i].number == f.number {
			m.logs[i].durable = durable
			return
		}
	}
	copy(m.logs[1:], m.logs[:])
	m.logs[0] = extent{f.number, durable}
}

// forget takes away what is said of a file.
func (m *mark) forget(f markedFile) {
	if !f.isLog {
		m.manifest = extent{}
		return
	}
	for i, e := range m.logs {
		if e.number == f.number {
			m.logs[i] = extent{}
		}
	}
}

// A markedFile is a file whose durable bytes are counted.
type markedFile struct {
	isLog  bool
	number uint64
}

// markedName returns which file a name is of; ok says that it is of one.
func markedName(name string) (f markedFile, ok bool) {
	digits, isLog := strings.CutSuffix(name, ".log")
	if !isLog {
		if digits, ok = strings.CutPrefix(name, manifestPrefix); !ok {
			return f, false
		}
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return markedFile{isLog, number}, err == nil
}

const manifestPrefix = "MANIFEST-"

// readMark reads the mark of a folder: the zero mark if there is none that is whole.
func readMark(fs vfs.FS, dir string) mark {
	f, err := fs.Open(fs.PathJoin(dir, markFile))
	if err != nil {
		return mark{}
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return mark{}
	}
	m, _ := decodeMark(b)
	return m
}

// A markingFS is the file system of a store as Pebble has it: it keeps the store's mark.
type markingFS struct {
	vfs.FS
	dir    string
	failed func(error) // called when a log takes nothing more, before Pebble knows

	mu   sync.Mutex
	mark mark
	file vfs.File // the mark's; nil before it is written first
}

// Unwrap implements vfs.FS.
func (m *markingFS) Unwrap() vfs.FS { return m.FS }

// Create implements vfs.FS.
func (m *markingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	m.begin(name)
	f, err := m.FS.Create(name, c)
	return m.wrap(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (m *markingFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	m.begin(to)
	f, err := m.FS.ReuseForWrite(from, to, c)
	return m.wrap(to, f, err)
}

// Open implements vfs.FS. A log that Pebble opens it needs: of one before the last it would
// pass over in silence that it was cut off between two batches.
func (m *markingFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if f, ok := m.marked(name); ok && f.isLog {
		known := m.known()
		if t := known.tail(f); t.durable > 0 {
			if err := checkTail(m.FS, name, t); err != nil {
				return nil, err
			}
		}
	}
	return m.FS.Open(name, o...)
}

// marked returns which file of the store's folder a path is of.
func (m *markingFS) marked(path string) (f markedFile, ok bool) {
	if m.PathDir(path) != m.PathJoin(m.dir) {
		return f, false
	}
	return markedName(m.PathBase(path))
}

// begin makes sure that the mark says nothing of a file before it is made: there may have
// been one of that name that a crash took away.
func (m *markingFS) begin(path string) {
	f, ok := m.marked(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok && m.mark.durable(f) > 0 {
		m.mark.forget(f)
		m.write(true)
	}
}

func (m *markingFS) wrap(path string, f vfs.File, err error) (vfs.File, error) {
	is, ok := m.marked(path)
	if err != nil || !ok {
		return f, err
	}
	return &countedFile{File: f, is: is, fs: m}, nil
}

// note keeps that a file is durable up to a byte.
func (m *markingFS) note(f markedFile, durable uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark.note(f, durable)
	m.write(false)
}

// known returns the mark.
func (m *markingFS) known() mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mark
}

// write writes the mark. What fails makes it say less: if the disk fails, whoever writes
// what counts is told. The caller holds mu.
func (m *markingFS) write(sync bool) {
	if m.file == nil {
		f, err := m.OpenReadWrite(m.PathJoin(m.dir, markFile), vfs.WriteCategoryUnspecified)
		if err != nil {
			return
		}
		m.file = f
	}
	if _, err := m.file.WriteAt(m.mark.encode(), 0); err == nil && sync {
		_ = m.file.Sync()
	}
}

// Close makes the mark durable. Nothing may be written any more.
func (m *markingFS) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return
	}
	_ = m.file.Sync() // see write
	_ = m.file.Close()
	m.file = nil
}

// A countedFile is written from its beginning, by one at a time.
type countedFile struct {
	vfs.File
	is      markedFile
	fs      *markingFS
	written uint64 // up to the first write that failed: of that a part may stand there
	failed  bool
}

// Write implements vfs.File.
func (f *countedFile) Write(p []byte) (n int, err error) {
	n, err = f.File.Write(p)
	if f.failed = f.failed || err != nil; !f.failed {
		f.written += uint64(n)
	}
	return n, f.checked(err)
}

// Sync implements vfs.File.
func (f *countedFile) Sync() error { return f.synced(f.File.Sync) }

// SyncData implements vfs.File.
func (f *countedFile) SyncData() error { return f.synced(f.File.SyncData) }

func (f *countedFile) synced(sync func() error) error {
	written := f.written
	if err := f.checked(sync()); err != nil {
		return err
	}
	f.fs.note(f.is, written)
	return nil
}

// checked tells of a log that fails.
func (f *countedFile) checked(err error) error {
	if err != nil && f.is.isLog {
		f.fs.failed(err)
	}
	return err
}
