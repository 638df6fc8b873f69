package main

import (
	"errors"
	"strconv"
	"time"

	"timberline/events"
	"timberline/projections"
)

// perDay counts how many messages each user has had on each day, by UTC: those that the
// user got, and those that the user sent. A row is a day; its value is the number.
var perDay = &projections.Projection{Name: "per-day", Version: 1, Apply: countDays}

// countDays counts every message of a checkpoint for each of its users.
func countDays(given []projections.Given, t *projections.Table) error {
	for _, g := range given {
		if g.Event.Kind != events.KindMessage {
			continue // such as that somebody has read a conversation
		}
		for _, u := range g.Users {
			if err := count(t, projections.RowKey{User: u, Name: day(g)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// sentPerDay is the next version: it counts what a user sent apart. It is run from the
// start of the log beside the one that is read, and then switched to.
var sentPerDay = &projections.Projection{Name: "per-day", Version: 2, Apply: func(given []projections.Given, t *projections.Table) error {
	for _, g := range given {
		if g.Event.Kind != events.KindMessage {
			continue
		}
		for _, u := range g.Users {
			name := day(g) + " received"
			if u == g.Event.Sender {
				name = day(g) + " sent"
			}
			if err := count(t, projections.RowKey{User: u, Name: name}); err != nil {
				return err
			}
		}
	}
	return nil
}}

func day(g projections.Given) string { return g.Event.ID.Time().UTC().Format(time.DateOnly) }

// count raises a row by one.
func count(t *projections.Table, k projections.RowKey) error {
	is, err := t.Get(k)
	if err != nil {
		return err
	}
	n := 0
	if is != nil {
		if n, err = strconv.Atoi(string(is)); err != nil {
			return errors.Join(errors.New("a row that perday has not written"), err)
		}
	}
	return t.Set(k, strconv.AppendInt(nil, int64(n+1), 10))
}
