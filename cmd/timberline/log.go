package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"timberline/events"
	"timberline/store/pebble"
)

var logCommand = &command{
	name:    "log",
	summary: "print the events of the log as lines of JSON",
	about: `
A line is {"journal", "offset", "index", "event"}: which journal, which record of
it, and which event of that record. Journals come in the order they were opened,
each from --from on. It works while a server runs on the folder, and without.`,
	example: "timberline log --journal 1 --from 2 | head",
	run: func(ctx context.Context, c *call) error {
		data := c.flags.String("data", defaultData, "the server's data `folder`")
		var q logQuery
		c.flags.Uint64Var(&q.journal, "journal", 0, "only the journal with that `number` (j:2 is number 2); all if 0")
		c.flags.Uint64Var((*uint64)(&q.from), "from", 1, "first `offset`, in each journal")
		if err := c.parse(0); err != nil {
			return err
		}
		return printLog(ctx, c, *data, q)
	},
}

// A logQuery says which part of the log.
type logQuery struct {
	journal uint64 // 0: all
	from    events.Offset
}

func (q logQuery) values() url.Values {
	return url.Values{
		"journal": {strconv.FormatUint(q.journal, 10)},
		"from":    {strconv.FormatUint(uint64(q.from), 10)},
	}
}

func parseLogQuery(v url.Values) (q logQuery, err error) {
	if q.journal, err = strconv.ParseUint(v.Get("journal"), 10, 64); err != nil {
		return q, fmt.Errorf("journal: %w", err)
	}
	from, err := strconv.ParseUint(v.Get("from"), 10, 64)
	if err != nil {
		return q, fmt.Errorf("from: %w", err)
	}
	q.from = events.Offset(from)
	return q, nil
}

// printLog prints the log of a server that runs, or else of the folder itself.
func printLog(ctx context.Context, c *call, data string, q logQuery) error {
	answer, err := askAdmin(ctx, http.MethodGet, data, "/log", q.values(), nil)
	if errors.Is(err, errNoServer) {
		return printClosedLog(ctx, c, data, q)
	}
	if err != nil {
		return err
	}
	defer answer.Close()
	lines := bufio.NewReader(answer)
	for {
		line, err := lines.ReadString('\n')
		if text, is := strings.CutPrefix(line, errorLine); is {
			return errors.New(strings.TrimSpace(text))
		}
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the server's answer ends in the middle: %w", err)
		}
		if err := c.print("%s", line); err != nil {
			return err
		}
	}
}

func printClosedLog(ctx context.Context, c *call, data string, q logQuery) (err error) {
	if _, err := os.Stat(storePath(data)); err != nil {
		return fmt.Errorf("there is no store in %s: name the folder of a server with --data (%w)", data, err)
	}
	store, err := pebble.Open(storePath(data), pebble.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return logError(data, writeLog(ctx, c.stdout, store, q))
}

// logError says what to do about damage.
func logError(data string, err error) error {
	if events.Final(err) {
		return folderError(data, err)
	}
	return err
}

// readBytes is how much of the log is read at a time.
const readBytes = 1 << 20

// A logReader is a store whose log is read.
type logReader interface {
	events.Log
	events.Journals
}

// writeLog writes events as lines of JSON.
func writeLog(ctx context.Context, w io.Writer, log logReader, q logQuery) error {
	rows, err := log.ListJournals(ctx, 0, events.Strong)
	if err != nil {
		return err
	}
	if q.journal > uint64(len(rows)) {
		return fmt.Errorf("there is no journal %d, the last one is %d", q.journal, len(rows))
	}
	if q.journal > 0 {
		rows = rows[q.journal-1 : q.journal]
	}
	out := bufio.NewWriter(w)
	for _, row := range rows {
		if err = writeJournal(ctx, out, log, row.Journal(), max(q.from, 1)); err != nil {
			break
		}
	}
	return errors.Join(err, out.Flush())
}

func writeJournal(ctx context.Context, w *bufio.Writer, log events.Log, j events.Journal, at events.Offset) error {
	var line []byte
	for {
		records, err := log.ReadLog(ctx, j, at, readBytes, events.Strong)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, rec := range records {
			raws, err := rec.Events(j, at)
			if err != nil {
				return err
			}
			for i, raw := range raws {
				e, err := events.Raw(raw).Decode()
				if err != nil {
					return fmt.Errorf("record %d of journal %s: %w", at, j, err)
				}
				line = fmt.Appendf(line[:0], `{"journal":%q,"offset":"%d","index":%d,"event":`, j, at, i)
				line = append(e.AppendJSON(line), "}\n"...)
				if _, err := w.Write(line); err != nil {
					return fmt.Errorf("print: %w", err)
				}
			}
			at++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
