package corpus

import (
	"bytes"
	"compress/gzip"
	"fmt"
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

func gzipped(data []byte) []byte {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(data)
	w.Close()
	return zipped.Bytes()
}

func TestCorporaAreReadGzippedOrNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.tsv.gz")
	if err := os.WriteFile(path, gzipped(sample), 0o600); err != nil {
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

// Whatever is read as a corpus is read the same when it was written again; an error
// names the file.
func FuzzRead(f *testing.F) {
	f.Add([]byte("12:00\tann\thello, bob\n12:01\tbob\t\n"), false)
	f.Add([]byte("12:00\tann\ta tab\tin it\r\n"), true)
	f.Add([]byte("no tabs\n"), false)
	f.Add([]byte(gzipMagic+"nonsense"), false)
	f.Fuzz(func(t *testing.T, data []byte, zip bool) {
		if zip {
			data = gzipped(data)
		}
		lines, err := Read(bytes.NewReader(data), "some.tsv")
		if err != nil {
			if !strings.Contains(err.Error(), "some.tsv") || len(lines) > 0 {
				t.Fatalf("%d lines, %v, want none and the name of the file", len(lines), err)
			}
			return
		}
		var written bytes.Buffer
		for _, l := range lines {
			fmt.Fprintf(&written, "%s\t%s\t%s\r\n", l.Time, l.Nick, l.Text) // of two line breaks one is text
		}
		if strings.HasPrefix(lines[0].Time, gzipMagic) {
			return // only in a gzipped file that is text
		}
		again, err := Read(&written, "again.tsv")
		if diff := cmp.Diff(lines, again); diff != "" || err != nil {
			t.Fatalf("written and read again: %v\n%s", err, diff)
		}
		messages, err := Messages(lines, 300)
		if err == nil && len(messages) != len(lines) {
			t.Fatalf("%d messages of %d lines", len(messages), len(lines))
		}
		for _, m := range messages {
			if m.From.Validate() != nil || m.To.Validate() != nil || m.From == m.To {
				t.Fatalf("message %+v", m)
			}
		}
	})
}
