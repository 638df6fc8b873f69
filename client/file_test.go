package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

// openFile opens a device's file, which must succeed.
func openFile(t testing.TB, path string, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func loaded(t testing.TB, s Store) Saved {
	t.Helper()
	saved, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// wantLoaded checks what a store holds.
func wantLoaded(t testing.TB, why string, s Store, want Saved) {
	t.Helper()
	if d := cmp.Diff(want, loaded(t, s)); d != "" {
		t.Errorf("%s (-want +got):\n%s", why, d)
	}
}

// aLife is what a device keeps from its first login on: every kind of change.
func aLife() [][]Change {
	session := wire.OldSession{Session: events.SessionID{1, 2, 3}, Journal: "j:7", Offset: 40}
	return [][]Change{
		{{Cursor: &Cursor{Store: events.StoreID{9}}}},
		{{Send: &SavedSend{ID: 1, Message: events.MessageID{1}, To: "bob", Body: []byte("one")}}},
		{
			{Send: &SavedSend{ID: 2, Message: events.MessageID{2}, To: "bob", Type: "image/png", Body: []byte{0xff, 0}}},
			{Send: &SavedSend{ID: 3, Message: events.MessageID{3}, To: "carol", Body: []byte{}}},
		},
		{{Session: &SavedBegin{Session: session, Numbers: []uint64{1, 4, 5}}}},
		{{Answer: &SavedAnswer{ID: 2, Answer: Answer{Fate: FateRefused, Reason: wire.ReasonTooLarge}}}},
		{{Done: 1}, {Offset: 44}},
		{{Cursor: &Cursor{Store: events.StoreID{9}, Seq: 300}}},
		{{Send: &SavedSend{ID: 4, Message: events.MessageID{4}, To: "bob", Body: []byte("four"), Number: 6}}},
	}
}

// lived is what is left at the end of it.
func lived(steps [][]Change) (s Saved) {
	for _, step := range steps {
		for _, c := range step {
			s.Apply(c)
		}
	}
	return s
}

// empty treats nil and no bytes alike, as the file does.
func empty(s Saved) Saved {
	for i := range s.Sends {
		s.Sends[i].Body = append([]byte(nil), s.Sends[i].Body...)
	}
	return s
}

func TestFileKeepsEveryKindOfChange(t *testing.T) {
	for _, sync := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "device")
		steps := aLife()
		for i, step := range steps {
			f := openFile(t, path, FileOptions{Sync: sync})
			wantLoaded(t, fmt.Sprintf("opened before step %d", i), f, empty(lived(steps[:i])))
			if err := f.Save(step); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(empty(lived(steps[:i+1])), empty(loaded(t, f))); d != "" {
				t.Errorf("after step %d (-want +got):\n%s", i, d)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFileKeepsNothingOfTheCallers(t *testing.T) {
	f := openFile(t, filepath.Join(t.TempDir(), "device"), FileOptions{})
	c := Cursor{Seq: 5}
	begin := SavedBegin{Session: wire.OldSession{Journal: "j:1"}, Numbers: []uint64{7}}
	changes := []Change{{Send: &SavedSend{ID: 1}}, {Session: &begin}, {Cursor: &c}}
	if err := f.Save(changes); err != nil {
		t.Fatal(err)
	}
	before := loaded(t, f)
	c.Seq, begin.Session.Journal, begin.Numbers[0] = 6, "j:2", 8
	before.Sends[0].Number = 9
	wantLoaded(t, "after the caller changed its own", f,
		Saved{Cursor: Cursor{Seq: 5}, Session: wire.OldSession{Journal: "j:1"}, Sends: []SavedSend{{ID: 1, Number: 7}}})
}

// record returns a file of a life, and where its records end.
func fileOf(steps [][]Change) (data []byte, ends []int) {
	data = []byte(fileHeader)
	for _, step := range steps {
		data = appendRecord(data, step)
		ends = append(ends, len(data))
	}
	return data, ends
}

// A process that is killed, or a machine that dies, in the middle of a write
// leaves the beginning of a record.
func TestTornTailIsOneThatWasNeverKept(t *testing.T) {
	steps := aLife()
	data, ends := fileOf(steps)
	path := filepath.Join(t.TempDir(), "device")
	for cut := 0; cut <= len(data); cut++ {
		whole, _ := slices.BinarySearch(ends, cut+1)
		write(t, path, data[:cut])
		f := openFile(t, path, FileOptions{})
		wantLoaded(t, fmt.Sprintf("cut at byte %d of %d", cut, len(data)), f, empty(lived(steps[:whole])))
		if err := f.Save([]Change{{Done: 4}}); err != nil {
			t.Fatalf("cut at byte %d: %v", cut, err)
		}
		f.Close()
		want := empty(lived(append(slices.Clone(steps[:whole]), []Change{{Done: 4}})))
		wantLoaded(t, fmt.Sprintf("cut at byte %d, and gone on from there", cut), openFile(t, path, FileOptions{}), want)
	}
}

// A machine that dies can leave a file of the new length without its content.
func TestTailOfZerosIsOneThatWasNeverKept(t *testing.T) {
	steps := aLife()
	data, ends := fileOf(steps)
	path := filepath.Join(t.TempDir(), "device")
	for i, end := range ends[:len(ends)-1] {
		for _, from := range []int{end, end + recordHeader, end + recordHeader + 1} {
			torn := slices.Clone(data[:ends[i+1]])
			clear(torn[from:])
			write(t, path, torn)
			wantLoaded(t, fmt.Sprintf("zeros from byte %d", from), openFile(t, path, FileOptions{}), empty(lived(steps[:i+1])))
		}
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	os.Remove(path)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Leaving out a change could send a message twice: damage must not look like an
// end.
func TestDamageIsAnErrorAndNothingIsLostInSilence(t *testing.T) {
	steps := aLife()
	data, ends := fileOf(steps)
	path := filepath.Join(t.TempDir(), "device")
	last := ends[len(ends)-2]
	for at := range last {
		for _, flip := range []byte{1, 0x80} {
			bad := slices.Clone(data)
			bad[at] ^= flip
			write(t, path, bad)
			f, err := OpenFile(path, FileOptions{})
			if err == nil {
				f.Close()
				t.Fatalf("byte %d of %d is damaged, and the file was taken", at, len(data))
			}
			if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) {
				t.Fatalf("byte %d is damaged: %v, want an error that names the file and says so", at, err)
			}
			if left, _ := os.ReadFile(path); !bytes.Equal(left, bad) {
				t.Fatalf("byte %d is damaged, and the file was changed: it cannot be restored any more", at)
			}
		}
	}
}

// Of the last record it cannot be told whether it is damaged or was cut off. Its
// length can.
func TestDamagedLengthOfTheLastRecordIsAnError(t *testing.T) {
	data, ends := fileOf(aLife())
	for at := ends[len(ends)-2]; at < ends[len(ends)-2]+8; at++ {
		bad := slices.Clone(data)
		bad[at] ^= 1
		if _, err := replay(bad, new(Saved)); !errors.Is(err, errDamaged) {
			t.Errorf("byte %d: %v, want damaged", at, err)
		}
	}
}

func TestFileOfAnotherKindIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "diary")
	const version = "use the version that wrote it, or a newer one"
	for text, want := range map[string]string{
		"dear diary": "damaged", strings.Repeat("x", 1000): "damaged",
		"timberline device\n\x02 of a later version": version, "timberline device\n\x00": version,
	} {
		write(t, path, []byte(text))
		if _, err := OpenFile(path, FileOptions{}); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q was opened: %v, want %q and the path", text, err, want)
		}
		if left, _ := os.ReadFile(path); string(left) != text {
			t.Errorf("%.20q was changed", text)
		}
	}
}

func TestFileBelongsToOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	f := openFile(t, path, FileOptions{})
	if _, err := OpenFile(path, FileOptions{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("opened twice: %v, want ErrInUse with the path", err)
	}
	grow(t, f, 2*compactAt) // it is another file now
	if _, err := OpenFile(path, FileOptions{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice after it was written anew: %v, want ErrInUse", err)
	}
	f.Close()
	openFile(t, path, FileOptions{}).Close()
	if err := f.Save([]Change{{Done: 1}}); !errors.Is(err, errFileClosed) {
		t.Errorf("saved after Close: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestFileInAFolderThatIsMissingIsAnError(t *testing.T) {
	if _, err := OpenFile(filepath.Join(t.TempDir(), "none", "device"), FileOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that the folder does not exist", err)
	}
}

// grow saves sends that come and go until about so many bytes were written.
func grow(t testing.TB, f *File, bytes int) {
	t.Helper()
	body := make([]byte, 4<<10)
	for id := uint64(1000); bytes > 0; id++ {
		err := f.Save([]Change{{Send: &SavedSend{ID: id, To: "bob", Body: body}}, {Done: id}})
		if err != nil {
			t.Fatal(err)
		}
		bytes -= len(body)
	}
}

func TestFileIsWrittenAnewWhenMostOfItIsOfNoUse(t *testing.T) {
	for _, sync := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "device")
		f := openFile(t, path, FileOptions{Sync: sync})
		for _, step := range aLife() {
			if err := f.Save(step); err != nil {
				t.Fatal(err)
			}
		}
		grow(t, f, 3<<20)
		if size := sizeOf(t, path); size > 2*compactAt {
			t.Errorf("the file has %d bytes for a handful of sends", size)
		}
		f.Close()
		f = openFile(t, path, FileOptions{})
		wantLoaded(t, "written anew", f, empty(lived(aLife())))
		if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
			t.Errorf("files %v, want one", left)
		}
	}
}

// What is of use does not count as waste: a large outbox must not be written anew
// with every send.
func TestFileOfALargeOutboxIsNotWrittenAnewAllTheTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	f := openFile(t, path, FileOptions{})
	body := make([]byte, 4<<10)
	anew := 0
	for id := range uint64(512) {
		before := f.f
		if err := f.Save([]Change{{Send: &SavedSend{ID: id + 1, To: "bob", Body: body}}}); err != nil {
			t.Fatal(err)
		}
		if f.f != before {
			anew++
		}
	}
	if anew > 3 {
		t.Errorf("written anew %d times while 2 MiB came in", anew)
	}
	if n := len(loaded(t, f).Sends); n != 512 {
		t.Errorf("%d sends are kept, want 512", n)
	}
}

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A crash while the file is written anew leaves a part of the new one beside the
// old.
func TestLeftoverOfACrashWhileWritingAnewIsNoHindrance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	write(t, path+".new", []byte("timberline dev"))
	f := openFile(t, path, FileOptions{})
	for _, step := range aLife() {
		if err := f.Save(step); err != nil {
			t.Fatal(err)
		}
	}
	grow(t, f, 2*compactAt)
	f.Close()
	wantLoaded(t, "the old file counts", openFile(t, path, FileOptions{}), empty(lived(aLife())))
}

func TestFileThatCannotBeWrittenAnewGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path, FileOptions{})
	grow(t, f, 4*compactAt)
	if size := sizeOf(t, path); size < 4*compactAt {
		t.Errorf("the file has %d bytes: it was written anew, and the test shows nothing", size)
	}
	f.Close()
	if n := len(loaded(t, openFile(t, path, FileOptions{})).Sends); n != 0 {
		t.Errorf("%d sends are kept, want none", n)
	}
}

// Of a record of several pages any may have reached the disk when the machine
// died.
func TestTornRecordWithoutItsFirstPageWasNeverKept(t *testing.T) {
	data := appendRecord([]byte(fileHeader), []Change{{Send: &SavedSend{ID: 1, To: "bob", Body: []byte("hi")}}})
	good := len(data)
	data = appendRecord(data, []Change{{Send: &SavedSend{ID: 2, To: "bob", Body: bytes.Repeat([]byte("x"), 8000)}}})
	clear(data[good:4096])
	var s Saved
	if n, err := replay(data, &s); n != good || err != nil || len(s.Sends) != 1 {
		t.Errorf("%d bytes of %d are good, %v; want %d", n, len(data), err, good)
	}
	data = appendRecord(data, []Change{{Done: 1}})
	if _, err := replay(data, new(Saved)); !errors.Is(err, errDamaged) {
		t.Errorf("records behind it: %v, want that it is damaged", err)
	}
}
