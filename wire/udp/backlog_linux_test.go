package udp

import (
	"testing"
)

func TestBacklogTellsWhatWaitsAndWhatIsLost(t *testing.T) {
	on := system(newTransfer)
	a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
	if full, lost := b.Backlog(); full != 0 || lost != 0 {
		t.Errorf("nothing was sent: %v full, %d lost", full, lost)
	}
	const each = 1000
	lost := uint32(0)
	sent := 0
	for full := 0.0; lost == 0 && sent < 100_000; sent += each {
		write(t, a, numbered(b, each)...)
		before := full
		if full, lost = b.Backlog(); full <= before && lost == 0 || full > 1 {
			t.Fatalf("after %d datagrams it is %v full, and %v before", sent+each, full, before)
		}
	}
	if lost == 0 {
		t.Fatalf("%d datagrams have found room", sent)
	}
	if got := len(readUpTo(t, b, sent)); got != sent-int(lost) {
		t.Errorf("%d of %d were there to be read, and %d lost", got, sent, lost)
	}
	if full, _ := b.Backlog(); full > 0.01 {
		t.Errorf("all is read: %v full", full)
	}
}

func TestBacklogIsAskedForWithoutAllocating(t *testing.T) {
	on := system(newTransfer)
	c := on.listen(t, "127.0.0.1:0")
	if n := testing.AllocsPerRun(100, func() { c.Backlog() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
