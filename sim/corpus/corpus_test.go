package corpus

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

func TestSampleIsRealChatBetweenValidUsers(t *testing.T) {
	lines := Sample()
	if len(lines) != 400 {
		t.Errorf("%d lines, want 400", len(lines))
	}
	messages, err := Messages(lines, 300)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if m.From.Validate() != nil || m.To.Validate() != nil || m.From == m.To || m.Text != lines[i].Text {
			t.Errorf("message %d: %+v", i+1, m)
		}
	}
}

func TestPartnerIsWhoIsAddressedElseTheLastOtherSpeaker(t *testing.T) {
	const users = 1000
	lines := []Line{
		{"t", "ann", "hello"},           // nobody spoke before: the first other speaker
		{"t", "bob", "hi"},              // the last one
		{"t", "bob", "cat: are you in"}, // addressed, though she has not spoken yet
		{"t", "cat", "BOB, yes"},        // nobody minds the case
		{"t", "cat", "note: no nick"},   // the last other speaker, not herself
		{"t", "ann", "ann: myself"},     // a partner is somebody else
		{"t", "ann", "so: what, then"},
		{"t", "bob", ""},
	}
	want := []string{"bob", "ann", "cat", "bob", "bob", "cat", "cat", "ann"}
	messages, err := Messages(lines, users)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if m.From != Fold(lines[i].Nick, users) || m.To != Fold(want[i], users) {
			t.Errorf("line %d, %q: from %s to %s, want to %s (%s)", i+1, lines[i].Text, m.From, m.To, Fold(want[i], users), want[i])
		}
	}
}

func TestFoldingKeepsPartnersApart(t *testing.T) {
	messages, err := Messages(Sample(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if m.From == m.To {
			t.Errorf("message %d goes from %s to itself", i+1, m.From)
		}
	}
	for _, users := range []int{-1, 0, 1} {
		if _, err := Messages(Sample(), users); err == nil {
			t.Errorf("%d users were taken", users)
		}
	}
	if _, err := Messages([]Line{{"t", "ann", "anybody here?"}}, 300); err == nil || !strings.Contains(err.Error(), "more nicks") {
		t.Errorf("a corpus of one nick: %v, want an error that says so", err)
	}
}

func TestFoldingIsForEver(t *testing.T) {
	got := []events.User{Fold("edbian", 300), Fold("|trey|", 300), Fold("ubottu", 2)}
	if d := cmp.Diff([]events.User{"u0038", "u0017", "u0000"}, got); d != "" {
		t.Errorf("users (-want +got):\n%s", d)
	}
}

func TestCorporaAreReadGzippedOrNot(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(sample)
	w.Close()
	path := filepath.Join(t.TempDir(), "sample.tsv.gz")
	if err := os.WriteFile(path, zipped.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Sample(), lines); d != "" {
		t.Errorf("zipped (-plain +zipped):\n%s", d)
	}
}

func TestBadCorporaAreNamedWithTheLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no text", "t\tann\thi\nt\tbob\n", "line 2"},
		{"no nick", "t\t\thi\n", "line 1"},
		{"empty", "", "is empty"},
		{"a line without end", "t\tann\thi\n" + strings.Repeat("x", maxLine+1), "line 2"},
		{"a text beyond what can be sent", "t\tann\t" + strings.Repeat("x", events.DefaultMaxBody+1), "line 1"},
		{"cut off", gzipMagic + "\x08", "x.tsv"},
	} {
		_, err := Read(strings.NewReader(c.text), "x.tsv")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.tsv") {
			t.Errorf("%s: %v, want an error that names x.tsv and says %q", c.name, err, c.want)
		}
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was read")
	}
}
