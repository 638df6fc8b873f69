package client

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const goldenDevice = "testdata/device-v1.hex"

// goldenFile returns the file that every version must read: a line of hex for
// the header and for each record.
func goldenFile(t testing.TB) (data []byte) {
	t.Helper()
	text, err := os.ReadFile(goldenDevice)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b...)
	}
	return data
}

func TestGoldenFileIsReadAndWrittenAsEver(t *testing.T) {
	written, _ := fileOf(aLife())
	golden := goldenFile(t)
	if !bytes.Equal(written, golden) {
		t.Errorf("wrote\n%x\nthe file has\n%x", written, golden)
	}
	path := filepath.Join(t.TempDir(), "device")
	write(t, path, golden)
	wantLoaded(t, "golden", openFile(t, path, FileOptions{}), empty(lived(aLife())))
}

// Whatever is in a file: it is read without a panic, and what it means survives
// being written anew and being gone on with.
func FuzzFile(f *testing.F) {
	golden := goldenFile(f)
	f.Add(golden, false)
	f.Add(golden[:len(golden)-3], false)
	f.Add(append(bytes.Clone(golden), make([]byte, 40)...), false)
	f.Add([]byte(fileHeader), false)
	f.Add([]byte("timber"), false)
	for _, step := range aLife() {
		f.Add(appendRecord(nil, step)[recordHeader:], true)
	}
	f.Fuzz(func(t *testing.T, data []byte, payload bool) {
		if payload { // of a record whose checksums are right
			data = sealedFile(data)
		}
		var s Saved
		good, err := replay(data, &s)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatalf("%v, want damaged", err)
			}
			return
		}
		if good > len(data) {
			t.Fatalf("%d good bytes of %d", good, len(data))
		}
		means(t, "the good part", data[:good], s)
		if good == 0 {
			return
		}
		means(t, "written anew", appendRecord([]byte(fileHeader), s.changes()), s)
		more := s.clone()
		more.Apply(Change{Done: 7})
		means(t, "gone on with", appendRecord(bytes.Clone(data[:good]), []Change{{Done: 7}}), more)
	})
}

// sealed returns a file with one record that holds these bytes.
func sealedFile(payload []byte) []byte {
	h := make([]byte, recordHeader)
	binary.BigEndian.PutUint32(h, uint32(len(payload)))
	binary.BigEndian.PutUint32(h[4:], crc32.Checksum(h[:4], castagnoli))
	binary.BigEndian.PutUint32(h[8:], crc32.Checksum(payload, castagnoli))
	return slices.Concat([]byte(fileHeader), h, payload)
}

// means checks that a file is read whole, and means s.
func means(t *testing.T, why string, data []byte, s Saved) {
	t.Helper()
	var got Saved
	good, err := replay(data, &got)
	if err != nil || good != len(data) {
		t.Fatalf("%s: %d of %d bytes are good, %v", why, good, len(data), err)
	}
	if d := cmp.Diff(s, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s (-want +got):\n%s", why, d)
	}
}
