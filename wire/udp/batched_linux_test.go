package udp

import (
	"testing"
)

func TestOneReadTakesAllThatIsThere(t *testing.T) {
	on := system(newTransfer)
	a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
	write(t, a, numbered(b, 100)...) // on the loopback they are there when this returns
	if got := readUpTo(t, b, 60); len(got) != 60 {
		t.Errorf("%d datagrams were read, want as many as there is room for, 60", len(got))
	}
	if got := readUpTo(t, b, 60); len(got) != 40 {
		t.Errorf("%d datagrams were read, want the other 40", len(got))
	}
}
