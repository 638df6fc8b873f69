package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"timberline/events"
)

// describe returns an event in a line for people.
func describe(e *events.Event) string {
	peer, _ := e.Conversation.Peer(e.Sender)
	return fmt.Sprintf("%s\t%s → %s\t%s", e.ID.Time().Local().Format("2006-01-02 15:04"), e.Sender, peer, text(e))
}

// text returns a message's body as it can be shown in a line of a terminal,
// whatever its author put into it.
func text(e *events.Event) string {
	switch e.Kind {
	case events.KindMessage:
	case events.KindReadUpTo:
		return fmt.Sprintf("(has read up to %v)", e.Target)
	default:
		return fmt.Sprintf("(%v)", e.Kind)
	}
	isText := e.ContentType == "" || strings.HasPrefix(e.ContentType, "text/")
	if isText && utf8.Valid(e.Body) {
		return printable(string(e.Body))
	}
	what := counted(len(e.Body), "byte", "bytes")
	if e.ContentType != "" {
		what += " of " + printable(e.ContentType)
	}
	if isText {
		what += ", not UTF-8"
	}
	return "(" + what + ")"
}

// counted returns a number with the word that goes with it.
func counted[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printable returns a text without characters that move a terminal's cursor or
// worse.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '⏎'
		case r == '\t':
			return ' '
		case unicode.IsPrint(r), r == joiner:
			return r
		case unicode.Is(unicode.Cf, r):
			return -1 // such as those that turn the direction of a text around
		}
		return unicode.ReplacementChar
	}, s)
}

// joiner makes one emoji of several.
const joiner = '\u200d'
