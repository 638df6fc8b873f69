package wire

import (
	"slices"
	"testing"
)

// Reasons are on the wire: a number that gets another meaning misleads every
// client in the field.
func TestReasonsKeepTheirNumbersAndNames(t *testing.T) {
	want := []struct {
		reason Reason
		name   string
	}{
		{ReasonNone, ""}, {ReasonBusy, "busy"}, {ReasonVersion, "version"}, {ReasonBadToken, "bad_token"},
		{ReasonExpired, "expired"}, {ReasonMalformed, "malformed"}, {ReasonTooLarge, "too_large"},
		{ReasonRecipient, "recipient"}, {ReasonNotAllowed, "not_allowed"}, {ReasonReplaced, "replaced"},
		{ReasonIdle, "idle"}, {ReasonShutdown, "shutdown"}, {ReasonLoggedOut, "logged_out"}, {ReasonJournal, "journal"},
		{ReasonRevoked, "revoked"}, {ReasonSessions, "sessions"},
	}
	for i, x := range want {
		if int(x.reason) != i || x.reason.String() != x.name {
			t.Errorf("reason %d is %d, named %q; want %q", i, x.reason, x.reason, x.name)
		}
	}
	if len(reasonNames) != len(want) {
		t.Errorf("%d reasons have names, want %d", len(reasonNames), len(want))
	}
	if got := Reason(200).String(); got != "reason 200" {
		t.Errorf("a reason of a later version is %q, want its number", got)
	}
}

func TestStatusesKeepTheirNumbersAndNames(t *testing.T) {
	want := []string{StatusOK: "", StatusTooOld: "too_old", StatusAhead: "ahead", StatusBusy: "busy"}
	if !slices.Equal(statusNames, want) {
		t.Errorf("statuses are %q, want %q", statusNames, want)
	}
}

func TestFramesKeepTheirKinds(t *testing.T) {
	names := []string{
		"", "login", "accepted", "denied", "send", "ack", "busy", "push", "part", "got", "sync", "page", "ping", "pong",
		"settled", "closed", "bye", "challenge", "echo",
	}
	for k := 1; k < len(kinds); k++ {
		f := newFrame(uint64(k))
		if got := f.kind(); int(got) != k || k >= len(names) || got.String() != names[k] {
			t.Errorf("kind %d makes a frame of kind %d, %v", k, got, got)
		}
	}
	for _, k := range []uint64{0, uint64(len(kinds)), 256 + 1, 1<<32 + 1, 1<<64 - 1} {
		if f := newFrame(k); f != nil {
			t.Errorf("kind %d makes a %v, want nothing", k, f.kind())
		}
	}
}

func TestCodecsAreNamedAsFlagsHaveThem(t *testing.T) {
	if Proto.String() != "protobuf" || JSON.String() != "json" {
		t.Errorf("codecs are %v and %v, want protobuf and json", Proto, JSON)
	}
}
