package main

import (
	"encoding/json"
	"strings"
	"testing"

	"timberline/cmd/bench"
	"timberline/cmd/units"
)

// benchReport runs a short bench and returns its report.
func benchReport(t *testing.T, args ...string) (r bench.Report) {
	t.Helper()
	o := runAlone(t, append([]string{"bench", "--json", "--duration", "1s", "--folder", shortFolder(t)}, args...)...)
	o.want(t, exitOK, `"acked_per_s"`, "limits")
	if err := json.Unmarshal([]byte(o.out), &r); err != nil {
		t.Fatalf("%q: %v", o.out, err)
	}
	return r
}

func TestBenchReportsWhatWasAcknowledgedAndReadsItBack(t *testing.T) {
	for name, args := range map[string][]string{
		"one session":            {"--sessions", "1", "--rate", "200"},
		"closed loop, sealed":    {"--sessions", "20", "--window", "8", "--payload", "fixed:60"},
		"open loop, plain, JSON": {"--sessions", "20", "--rate", "500", "--receivers", "online", "--plain", "--codec", "json"},
		"a bad network":          {"--sessions", "20", "--rate", "200", "--receivers", "online", "--loss", "0.1", "--duplicate", "0.05", "--reorder", "0.05"},
	} {
		t.Run(name, func(t *testing.T) {
			r := benchReport(t, args...)
			if r.AckedPerS < 100 || r.Ack.P50 <= 0 || r.Ack.P99 < r.Ack.P50 || r.Ack.P999 < r.Ack.P99 {
				t.Errorf("acked %v a second, after %+v", r.AckedPerS, r.Ack)
			}
			if online := r.Receivers == "online"; online != (r.Delivery != nil) || online && (r.DeliveredPerS < 100 || r.Delivery.P50 <= 0) {
				t.Errorf("receivers are %s: delivered %v a second, after %+v", r.Receivers, r.DeliveredPerS, r.Delivery)
			}
			if r.Limits.EchoPerS < 1000 || r.Limits.FsyncPerS < 10 || r.Limits.Fsync.P50 <= 0 || r.Ratio <= 0 {
				t.Errorf("limits %+v, ratio %v", r.Limits, r.Ratio)
			}
			if r.Server.CPU <= 0 || r.Server.PeakRSS < 1<<20 {
				t.Errorf("the server has used %+v", r.Server)
			}
			if v := r.Verified; v.Acked < 100 || v.ReadBack != v.Acked || !v.OK() {
				t.Errorf("verified %+v", v)
			}
		})
	}
}

func TestBenchGivesTheServerCoresOfItsOwn(t *testing.T) {
	if r := benchReport(t, "--sessions", "2", "--rate", "100", "--server-cores", "1"); r.Verified.Acked < 100 {
		t.Errorf("verified %+v", r.Verified)
	}
	runAlone(t, "bench", "--server-cores", "1000").want(t, exitFailed, "", "fewer than")
}

func TestBenchTellsWhatIdleSessionsCostAndHowFastADeviceCatchesUp(t *testing.T) {
	var idle bench.IdleReport
	o := runAlone(t, "bench", "idle", "--sessions", "50", "--idle", "1s", "--json").want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &idle); err != nil || idle.Sessions != 50 || idle.LoginsPerS <= 0 || idle.RSS0 <= 0 {
		t.Errorf("%s: %v", o.out, err)
	}
	var sync bench.SyncReport
	o = runAlone(t, "bench", "--entries", "500", "--json", "sync").want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &sync); err != nil || sync.Entries != 500 || sync.Ms <= 0 || sync.EntriesPerS <= 0 {
		t.Errorf("%s: %v", o.out, err)
	}
}

func TestBenchTellsWhatMessagesCostOnDynamoDB(t *testing.T) {
	var r units.Report
	args := []string{"bench", "units", "--rate", "500", "--duration", "1s", "--users", "100", "--shards", "2"}
	o := tl(t, append(args, "--json")...).want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &r); err != nil || r.Messages == 0 || r.Entries != 2*r.Messages {
		t.Errorf("%s: %v", o.out, err)
	}
	if p := r.PerMessage; p.LogWrite <= 0 || p.LogWrite > 1 || p.CheckpointWrite <= 0 || p.EntryWrite <= 0 || p.EntryWrite > 1 || p.LogRead <= 0 {
		t.Errorf("%+v", p)
	}
	tl(t, args...).want(t, exitOK, "write units a timeline entry", "")
}

func TestBenchThatCannotRunSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ flag, value, says string }{
		{"--sessions", "0", "--sessions"},
		{"--window", "2000", "--window"},
		{"--payload", "poems", "--payload"},
		{"--receivers", "nobody", "--receivers"},
		{"--loss", "1", "--loss"},
		{"--rate", "-1", "--rate"},
		{"--rate", "NaN", "--rate"},
		{"--rate", "1e-11", "--rate"},
		{"--sockets", "1001", "--sockets"},
		{"--server-cores", "-1", "--server-cores"},
		{"--idle", "-5s", "--idle"},
		{"--folder", "/no/such/folder", "--folder"},
	} {
		tl(t, "bench", c.flag, c.value).want(t, exitUsage, "", c.says)
	}
	tl(t, "bench", "--receivers", "online", "--sessions", "3").want(t, exitUsage, "", "even")
	tl(t, "bench", "--sockets", "9", "--sessions", "5").want(t, exitUsage, "", "number of sessions")
	for flag, value := range map[string]string{"--users": "3", "--shards": "0", "--append-latency": "-1s", "--read-latency": "2s", "--slower": "0.1"} {
		tl(t, "bench", "units", flag, value).want(t, exitUsage, "", flag+" is")
	}
	tl(t, "bench", "all", "--payload", "poems").want(t, exitUsage, "", "--payload")
	for _, words := range []string{"everything", "idle sync", "--json everything", "idle --json sync"} {
		tl(t, append([]string{"bench"}, strings.Fields(words)...)...).want(t, exitUsage, "", "there is no bench")
	}
}
