package main

import (
	"fmt"
	"time"
)

// A moment is a time given as a flag: the zero time if it was not.
type moment struct{ time.Time }

// momentHelp says what a moment can be.
const momentHelp = "2026-01-31 (its first moment), 2026-01-31T15:04 (local), with seconds and a zone as RFC 3339 has them, or how long ago: 90m, 36h"

// momentLayout is how commands print a time: RFC 3339, with the milliseconds that ids have.
const momentLayout = "2006-01-02T15:04:05.000Z07:00"

// String implements flag.Value.
func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

// Set implements flag.Value.
func (m *moment) Set(text string) error {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	return fmt.Errorf("want %s", momentHelp)
}
