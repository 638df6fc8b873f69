package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthSaysWhetherAProcessServes(t *testing.T) {
	p, _ := newServer(t)
	tl(t, "health", "--monitor", p.Monitor).want(t, exitOK, "", "")
	t.Setenv("TIMBERLINE_MONITOR", p.Monitor)
	tl(t, "health").want(t, exitOK, "", "")

	starting, err := newMonitor("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go starting.run(t.Context(), slog.New(slog.DiscardHandler))
	tl(t, "health", "--monitor", starting.address()).want(t, exitFailed, "", "the server is starting")
}

func TestHealthOfNobodyFails(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	tl(t, "health", "--monitor", gone.Addr().String()).want(t, exitFailed, "", "nobody answers")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "no such page")
	}))
	defer other.Close()
	tl(t, "health", "--monitor", strings.TrimPrefix(other.URL, "http://")).want(t, exitFailed, "", "no such page")
	tl(t, "health").want(t, exitUsage, "", "--monitor is missing, want the address that the process was given by it")
}
