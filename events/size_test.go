package events_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"timberline/events"
	"timberline/sim/corpus"
)

// A message of real chat costs at most 180 bytes in a record on average, the
// record's own bytes included: what a message is stored with must not outgrow
// the message.
func TestMessagesOfTheCorpusAreSmall(t *testing.T) {
	const users, perRecord, most = 200, 100, 180
	messages, err := corpus.Messages(corpus.Sample(), users)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2011, 4, 17, 4, 4, 0, 0, time.UTC)
	clock, err := events.NewClock(func() time.Time { return day }, bytes.NewReader([]byte("a writer")))
	if err != nil {
		t.Fatal(err)
	}
	var raws [][]byte
	size, text, at := 0, 0, events.Offset(0)
	for i, m := range messages {
		day = day.Add(time.Second)
		e := events.Event{
			ID: clock.Next(), Kind: events.KindMessage, Conversation: events.Direct(m.From, m.To), Sender: m.From,
			Device: "phone", Session: events.SessionID([]byte(fmt.Sprintf("edge%12d", i))), Number: events.Number(i + 1),
			Message: events.NewMessageID(), Body: []byte(m.Text),
		}
		raws, text = append(raws, e.Encode()), text+len(m.Text)
		if len(raws) == perRecord {
			at++
			size += len(events.NewRecord("j:1", at, raws))
			raws = nil
		}
	}
	if len(raws) > 0 {
		t.Fatalf("%d messages do not fill records of %d", len(messages), perRecord)
	}
	average := float64(size) / float64(len(messages))
	t.Logf("%d messages in %d records: %.1f bytes each, %.1f of them text", len(messages), at, average, float64(text)/float64(len(messages)))
	if average > most {
		t.Errorf("a message costs %.1f bytes, want at most %d", average, most)
	}
}
