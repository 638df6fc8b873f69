package events

import (
	"bytes"
	"testing"
)

func TestScannedFieldsAgreeWithDecodedOnes(t *testing.T) {
	e := Event{
		ID: ID{1, 2, 3}, Kind: KindMessage, Conversation: Direct("alice", "bob"), Sender: "alice", Device: "phone",
		Session: SessionID{4, 5, 6}, Number: 7, Message: MessageID{8}, Body: []byte("hello"), Target: ID{9},
	}
	raw := e.Encode()
	if got := raw.EventID(); got != e.ID {
		t.Errorf("EventID = %v, want %v", got, e.ID)
	}
	if got := raw.SessionID(); got != e.Session {
		t.Errorf("SessionID = %v, want %v", got, e.Session)
	}
	if id, k, c, err := raw.Place(); id != e.ID || k != e.Kind || c != e.Conversation || err != nil {
		t.Errorf("Place = %v, %v, %q, %v", id, k, c, err)
	}
	e.Body = nil
	if got, want := raw.WithoutBody(), e.Encode(); !bytes.Equal(got, want) {
		t.Errorf("WithoutBody = %x, want %x", got, want)
	}
	if bare := raw.WithoutBody(); !bytes.Equal(bare.WithoutBody(), bare) {
		t.Error("an event without a body must stay as it is")
	}
}

func TestScanningDamagedEventsFindsNothing(t *testing.T) {
	raw := (&Event{ID: ID{1}, Kind: KindMessage, Session: SessionID{4}, Body: []byte("hello")}).Encode()
	for n := range len(raw) {
		cut := raw[:n]
		_ = cut.WithoutBody()
		if s := cut.SessionID(); s != (SessionID{}) && s != (SessionID{4}) {
			t.Errorf("cut to %d bytes: session %v", n, s)
		}
	}
}
