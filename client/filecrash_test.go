//go:build linux || darwin

package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"timberline/events"
)

// TestMain makes the test binary the writer of a file where it is started as one.
func TestMain(m *testing.M) {
	if path := os.Getenv("TIMBERLINE_TEST_WRITER"); path != "" {
		writer(path, os.Getenv("TIMBERLINE_TEST_WRITER_SYNC") != "")
	}
	os.Exit(m.Run())
}

// kept is how many sends the writer leaves open.
const kept = 10

// turn returns what the writer saves as its nth step. After it the file holds
// afterTurn(n).
func turn(n uint64) []Change {
	changes := []Change{{Send: turnSend(n)}, {Cursor: &Cursor{Store: events.StoreID{1}, Seq: events.Seq(n)}}}
	if n > kept {
		changes = append(changes, Change{Done: n - kept})
	}
	return changes
}

func turnSend(n uint64) *SavedSend {
	body := make([]byte, 4<<10)
	binary.BigEndian.PutUint64(body, n)
	return &SavedSend{ID: n, To: "bob", Body: body}
}

func afterTurn(n uint64) (s Saved) {
	if n == 0 {
		return s
	}
	s.Cursor = Cursor{Store: events.StoreID{1}, Seq: events.Seq(n)}
	first := uint64(1)
	if n > kept {
		first = n - kept + 1
	}
	for id := first; id <= n; id++ {
		s.Sends = append(s.Sends, *turnSend(id))
	}
	return s
}

// writer saves turn after turn, and says so on its output after each. It goes on
// where the file ends, until it is killed.
func writer(path string, sync bool) {
	f, err := OpenFile(path, FileOptions{Sync: sync})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	saved, _ := f.Load()
	for n := uint64(saved.Cursor.Seq) + 1; ; n++ {
		if err := f.Save(turn(n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if _, err := os.Stdout.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
			os.Exit(1)
		}
	}
}

// startWriter starts a writer as a process of its own. It returns what kills it:
// the last turn that the writer said was saved, if any.
func startWriter(t *testing.T, path string, sync bool) (kill func() (last uint64)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TIMBERLINE_TEST_WRITER="+path)
	if sync {
		cmd.Env = append(cmd.Env, "TIMBERLINE_TEST_WRITER_SYNC=1")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan uint64, 1)
	going := make(chan struct{})
	go func() {
		var last uint64
		b := make([]byte, 8)
		for turns := 1; ; turns++ {
			if _, err := io.ReadFull(out, b); err != nil {
				break
			}
			if turns == kept {
				close(going)
			}
			last = binary.BigEndian.Uint64(b)
		}
		said <- last
	}()
	select {
	case <-going:
	case <-time.After(30 * time.Second):
		t.Error("the writer saves nothing")
	}
	return func() uint64 {
		if err := cmd.Process.Kill(); err != nil { // SIGKILL
			t.Error(err)
		}
		last := <-said
		cmd.Wait() // it was killed: that is its error
		return last
	}
}

// Whatever Save returned nil for is there, and nothing half, however often the
// process is killed in the middle of writing.
func TestFileSurvivesKillsInTheMiddleOfWrites(t *testing.T) {
	kills := 20
	if testing.Short() {
		kills = 4
	}
	for _, sync := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "device")
		begin := uint64(0)
		for range kills {
			kill := startWriter(t, path, sync)
			time.Sleep(time.Duration(rand.IntN(int(20 * time.Millisecond)))) // a process of its own has no other clock
			said := kill()
			f := openFile(t, path, FileOptions{})
			n := uint64(loaded(t, f).Cursor.Seq)
			if n < said || said <= begin {
				t.Fatalf("the writer began at turn %d, said that %d is saved, and the file is at %d", begin, said, n)
			}
			wantLoaded(t, fmt.Sprintf("killed after turn %d", n), f, afterTurn(n))
			f.Close()
			begin = n
		}
		if begin < 2*compactAt/(4<<10) && !testing.Short() {
			t.Errorf("%d turns in all: the file was hardly written anew", begin)
		}
	}
}

// limitFiles makes every file of the process end at a size, as a full disk
// does: writes land in part, then fail.
func limitFiles(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	for _, sync := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "device")
		f := openFile(t, path, FileOptions{Sync: sync})
		if err := f.Save(turn(1)); err != nil {
			t.Fatal(err)
		}
		size := sizeOf(t, path)
		lift := limitFiles(t, uint64(size)+1000)
		err := f.Save(turn(2))
		left := sizeOf(t, path)
		lift()
		if !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("saved on a full disk: %v", err)
		}
		if left != size {
			t.Errorf("the file has %d bytes after a write that failed, want the %d before", left, size)
		}
		wantLoaded(t, "nothing of it counts", f, afterTurn(1))
		if err := f.Save(turn(2)); err != nil {
			t.Fatalf("there is room again: %v", err)
		}
		f.Close()
		wantLoaded(t, "there was room again", openFile(t, path, FileOptions{}), afterTurn(2))
	}
}

func TestFullDiskWhileWritingAnewLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device")
	f := openFile(t, path, FileOptions{})
	n := uint64(1)
	save := func() {
		t.Helper()
		if err := f.Save(turn(n)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	for f.size <= compactAt-5<<10 {
		save()
	}
	lift := limitFiles(t, 10<<10)
	f.compact()
	lift()
	wantLoaded(t, "the old file", f, afterTurn(n-1))
	save()
	f.Close()
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("files %v, want one", left)
	}
	wantLoaded(t, "opened again", openFile(t, path, FileOptions{}), afterTurn(n-1))
}
