package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/sim/check"
)

func TestDemoKeepsEveryPromiseUnderLossAndKills(t *testing.T) {
	t.Parallel()
	o := runAlone(t, "demo", "--kills", "4", "--loss", "0.1", "--messages", "600", "--codec", "both", "--json").want(t, exitOK, "", "acked")
	got := map[string]float64{}
	if err := json.Unmarshal([]byte(o.out), &got); err != nil || got["seconds"] <= 0 {
		t.Fatalf("%q: %v", o.out, err)
	}
	delete(got, "seconds")
	want := map[string]float64{"sent": 600, "acked": 600, "delivered": 600, "lost": 0, "doubled": 0, "out_of_order": 0, "kills": 4}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
}

func TestDemoTakesACorpusOfOnesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "corpus.tsv")
	if err := os.WriteFile(file, []byte("2016-01-01T00:00\tann\tben: hi\n2016-01-01T00:01\tben\thello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := runAlone(t, "demo", "--corpus", file, "--messages", "7", "--kills", "0", "--loss", "0", "--duplicate", "0", "--reorder", "0", "--users", "50")
	o.want(t, exitOK, "delivered     7", "")
	if err := os.WriteFile(file, []byte("no tabs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runAlone(t, "demo", "--corpus", file).want(t, exitFailed, "", file)
	runAlone(t, "demo", "--corpus", file+".missing").want(t, exitFailed, "", file+".missing")
}

func TestDemoFailsWhenAPromiseIsBroken(t *testing.T) {
	h := check.NewHistory()
	alice, bob := h.Reader("alice", "phone"), h.Reader("bob", "phone")
	sending := alice.Send("bob", []byte("lost"))
	id := [16]byte{1}
	sending.Kept(id)
	h.Acked(id)
	alice.Complete()
	bob.Complete()
	var out, stderr bytes.Buffer
	d := demo{c: newCall(demoCommand, nil, nil, &out, &stderr)}
	status := status(t.Context(), demoCommand, d.report(h.Check(), true), &stderr)
	if status != exitFailed || !strings.Contains(out.String(), `"lost":2`) || !strings.Contains(stderr.String(), "a promise is broken") {
		t.Errorf("status %d\n%s%s", status, &out, &stderr)
	}
}
