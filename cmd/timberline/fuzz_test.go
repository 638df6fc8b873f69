package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/projections"
	"timberline/store/pebble"
)

// Whatever is in a configuration file: what is wrong is named by its flag; what is taken
// is printed, read and printed again in the same way.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("heartbeat 20s\nmax-body 1000 # bytes\nmax-sessions 7\n"))
	f.Add([]byte("listen 127.0.0.1:0,[::1]:0\nplain-anywhere\nmonitor\n"))
	f.Add([]byte("config other\n"))
	f.Add([]byte("server 127.0.0.1:1\nhartbeat 1s\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		printed, err := configured(t, data)
		if err != nil {
			return
		}
		again, err := configured(t, []byte(printed))
		if err != nil || again != printed {
			t.Fatalf("%q is taken as\n%s\nand that as\n%s\n%v", data, printed, again, err)
		}
	})
}

// configured reads a file of configuration and prints what it says.
func configured(t *testing.T, data []byte) (printed string, err error) {
	c := newCall(serveCommand, nil, nil, io.Discard, io.Discard)
	cfg := config{roles: allRoles}
	cfg.define(c.flags)
	if err := c.readConfig(bytes.NewReader(data), c.flags.Set); err != nil {
		return "", err
	}
	if err := cfg.check(); err != nil {
		wantReason(t, err)
		return "", err
	}
	var out strings.Builder
	printConfig(&out, c.flags)
	return out.String(), nil
}

// FuzzFlags reads a command line of a server, an argument a line.
func FuzzFlags(f *testing.F) {
	f.Add("--heartbeat\n20s\n--max-body=1000")
	f.Add("--listen\n127.0.0.1:0,[::1]:0\n--plain-anywhere=x")
	f.Add("--print-config\nmore")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "config") {
			return // it would read files
		}
		c := newCall(serveCommand, strings.Split(line, "\n"), nil, io.Discard, io.Discard)
		cfg := config{roles: allRoles}
		cfg.define(c.flags)
		err := c.parse(0)
		if err == nil {
			err = cfg.check()
		}
		if err != nil && !errors.Is(err, errHelp) && !errors.Is(err, flag.ErrHelp) {
			wantReason(t, err)
			var wrong *usageError
			if !errors.As(err, &wrong) {
				t.Fatalf("%v is not said to be wrong usage", err)
			}
		}
	})
}

// wantReason wants an error to name a flag, or what stands behind them all.
func wantReason(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); !strings.Contains(text, "-") && !strings.Contains(text, "argument") {
		t.Fatalf("%q does not say what it is about", err)
	}
}

// FuzzReports reads whatever a server may answer to a command that has a work done there.
func FuzzReports(f *testing.F) {
	f.Add([]byte(`{"progress":"half"}` + "\n" + `{"found":{"where":"here","expected":"a","found":"b","repaired":true}}` + "\n" + doneLine))
	f.Add([]byte(`{"verified":{"records":"1"}}` + "\n" + `{"traced":{"id":"x"}}` + "\n" + `{"line":{"a":1}}` + "\n" + errorLine + "no\n"))
	f.Add([]byte(`{"rebuilt":{"user":"bob"}}` + "\n" + `{"versions":{"dropped":[1]}}` + "\n" + `{"trimmed":{"journals":[1]}}` + "\n" + `{"backed_up":{}}` + "\nnull\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		w := worker{c: newCall(verifyCommand, nil, nil, io.Discard, io.Discard)}
		err := readReports(bytes.NewReader(answer), func(r report) {
			for _, w.json = range []bool{true, false} {
				if err := w.print(r); err != nil {
					t.Fatal(err)
				}
			}
		})
		if whole := bytes.HasPrefix(answer, []byte(doneLine)) || bytes.Contains(answer, []byte("\n"+doneLine)); err == nil && !whole {
			t.Fatalf("%q is taken for an answer", answer)
		}
	})
}

// FuzzWorks has a server do whatever it may be asked for on its store, which stays what it is.
func FuzzWorks(f *testing.F) {
	f.Add(uint8(0), []byte(`{"repair":true}`))
	f.Add(uint8(1), []byte(`{"user":"bob","rate":1e9}`))
	f.Add(uint8(1), []byte(`{"shard":0,"back":true,"status":false}`))
	f.Add(uint8(1), []byte(`{"drop":-1}`))
	f.Add(uint8(2), []byte(`{"keep":1,"older_than":1,"keep_log":true}`))
	f.Add(uint8(3), []byte(`{"journal":1,"offset":1,"user":"bob","conversation":"d:a","from":"2026-01-01T00:00:00Z"}`))
	f.Add(uint8(4), []byte(`{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`))
	s, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Shards: 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	fillTables(f, s, 21)
	works := []http.HandlerFunc{
		serveWork[verifyWork](s, "data"), serveWork[rebuildWork](s, "data"), serveWork[trimWork](s, "data"),
		serveWork[logWork](s, "data"), serveWork[traceWork](s, "data"),
	}
	f.Fuzz(func(t *testing.T, kind uint8, order []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer := httptest.NewRecorder()
		works[int(kind)%len(works)](answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(order)))
		if answer.Code != http.StatusOK {
			return // it was not understood
		}
		if err := readReports(answer.Body, func(r report) { _ = r.String() }); err != nil && strings.Contains(err.Error(), "the server's answer") {
			t.Fatal(err)
		}
		found := 0
		v := projections.Verification{Store: s, Meta: s.Meta(), Found: func(projections.Finding) { found++ }}
		if _, err := v.Run(t.Context()); err != nil || found > 0 {
			t.Fatalf("%s: afterwards %d differences are found, %v", order, found, err)
		}
	})
}
