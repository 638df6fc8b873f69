package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
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
