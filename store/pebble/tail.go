package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"timberline/events"
)

// Pebble's logs, the write-ahead log and the manifest, are blocks of 32 KiB with chunks
// in them, numbers little-endian:
//
//	0         4        6      7            11              19
//	+---------+--------+------+------------+---------------+---------
//	| CRC-32C | length | type | log number | durable up to | data …
//	+---------+--------+------+------------+---------------+---------
//	                          '---- write-ahead log only --'
//
// Pebble takes the first chunk that is not whole for the end, torn by a crash, unless a
// later block says that it was durable. So damage near the end would be passed over in
// silence, with everything behind it, also what was acknowledged. Here what stands
// behind is looked at, too. It was durable, and so is damage, if
//
//   - the store's mark says so: see durable.go. After a crash of the machine it may be an
//     older one, in a backup there is none, and so:
//   - a later chunk says so (Pebble leaves parts out as it counts, so that in a long log
//     they say less and less);
//   - more batches follow than can be on their way at a time (maxUnsynced); in a
//     manifest, any: each waits for the one before.
//
// That the log was closed says nothing: it is, too, when it has its size and batches are
// on their way, and of what was not synced any part may survive a crash. So an orderly
// end of the store writes as many empty batches (Store.Close).
//
// What stays unknown, beyond the mark, is whether the last few batches before a crash were
// torn by it or damaged later, whether the log was cut off, and what stands in a block
// behind a damaged length.
const (
	tailBlock  = 32 << 10
	plainChunk = 4 + 2 + 1 // of a manifest
	oldChunk   = plainChunk + 4
	logChunk   = oldChunk + 8

	firstType = 1 // of chunks: whole records, then first, middle and last parts of one
	oldTypes  = 4 // less than those of logs of an older format
	logTypes  = 8 // less than those of logs
)

// checkTails looks for damage in the last write-ahead log and the manifest of a folder, of
// which a mark is known. The error wraps events.ErrCorrupt and names the file, and so does
// file. What is wrong with the folder itself Pebble says.
func checkTails(fs vfs.FS, dir string, known mark) (file string, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", nil
	}
	last, log := markedFile{}, ""
	for _, n := range names {
		if f, ok := markedName(n); ok && f.isLog && f.number >= last.number {
			last, log = f, n
		}
	}
	if log != "" {
		t := known.tail(last)
		t.most = maxUnsynced
		if err := checkTail(fs, fs.PathJoin(dir, log), t); err != nil {
			return log, err
		}
	}
	// A later manifest may stand there, torn, if a crash came before it counted.
	manifest, err := atomicfs.ReadMarker(fs, dir, "manifest")
	if err != nil || manifest == "" {
		return "", nil
	}
	f, ok := markedName(manifest)
	if !ok {
		return "", nil
	}
	t := known.tail(f)
	t.most = 1
	return manifest, checkTail(fs, fs.PathJoin(dir, manifest), t)
}

// checkLogs looks whether the last write-ahead log is there, of a folder that nobody uses. The
// newest of which a mark tells is removed only when a later one has been made.
func checkLogs(fs vfs.FS, dir string, known mark) error {
	names, err := fs.List(dir)
	if err != nil {
		return nil // see checkTails
	}
	newest := known.logs[0].number
	for _, n := range names {
		if f, ok := markedName(n); ok && f.isLog && f.number >= newest {
			return nil
		}
	}
	if newest == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: the file is missing", events.ErrCorrupt, fs.PathJoin(dir, fmt.Sprintf("%06d.log", newest)))
}

// checkTail looks for damage in one file. One that is gone has none.
func checkTail(fs vfs.FS, path string, t tail) error {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, tailBlock)
	for {
		n, err := io.ReadFull(f, block)
		if n > 0 && t.block(block[:n]) {
			return fmt.Errorf("%w: %s: what stands at byte %d does not match its checksum", events.ErrCorrupt, path, t.broken)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	if t.offset < t.durable {
		return fmt.Errorf("%w: %s: it was cut off at byte %d, and had %d", events.ErrCorrupt, path, t.offset, t.durable)
	}
	return nil
}

// A tail is what is known of a log as its blocks are read in order.
type tail struct {
	isLog   bool
	number  uint32
	durable uint64 // up to here, as a mark says
	most    int    // batches, or records of a manifest, on their way at a time; 0: unknown
	offset  uint64 // of the block
	found   bool   // a chunk that is not whole,
	broken  uint64 // which is here
	behind  int    // batches that begin behind it
}

// A chunk is what the header of one says.
type chunk struct {
	size    int    // 0: no other follows in the block
	whole   bool   // it is what was written
	ends    bool   // the log: behind it is nothing
	begins  bool   // a record
	durable uint64 // up to where the log was when it was written
}

// block goes through the next block. It reports whether something in it shows that the
// chunk that is not whole once was.
func (t *tail) block(b []byte) (damaged bool) {
	defer func() { t.offset += uint64(len(b)) }()
	for at := 0; at+plainChunk <= len(b); {
		c := t.chunk(b[at:])
		if t.found && c.whole && c.begins {
			t.behind++
		}
		switch {
		case t.found && c.whole && (c.durable > t.broken || t.most > 0 && t.behind >= t.most):
			return true
		case !t.found && !c.whole:
			t.found, t.broken = true, t.offset+uint64(at)
			if t.broken < t.durable && !(c.ends && t.broken+oldChunk >= t.durable) {
				return true
			}
		}
		if c.size == 0 {
			return false
		}
		at += c.size
	}
	return false
}

// chunk looks at the chunk that b begins with.
func (t *tail) chunk(b []byte) (c chunk) {
	header, kind := plainChunk, b[6]
	if t.isLog {
		if len(b) < oldChunk {
			return chunk{whole: zero(b)} // there is no room for one
		}
		number := binary.LittleEndian.Uint32(b[7:])
		header = oldChunk
		switch {
		case len(b) < logChunk && zero(b):
			return chunk{whole: true}
		case number == t.number+1:
			return chunk{ends: true} // or of the log that the file was used for before
		case number != t.number:
			return chunk{}
		case kind > logTypes && len(b) >= logChunk:
			header, kind, c.durable = logChunk, kind-logTypes, binary.LittleEndian.Uint64(b[oldChunk:])
		case kind > oldTypes:
			kind -= oldTypes
		}
	}
	size := header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) || zero(b[:header]) {
		return chunk{}
	}
	c.size, c.begins = size, kind <= firstType+1
	c.whole = kind >= firstType && kind < firstType+4 && checksumOf(b[6:size]) == binary.LittleEndian.Uint32(b)
	return c
}

// checksumOf is CRC-32C as Pebble writes it: turned and shifted.
func checksumOf(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
