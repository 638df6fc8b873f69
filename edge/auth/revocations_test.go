package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
)

func at(text string) time.Time {
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return when
}

func TestRevocationsAreReadALineEach(t *testing.T) {
	got, err := ParseRevocations([]byte(`# lost phones
user alice
  device bob phone	# lost in Rome

user carol before 2026-01-31T12:00:00Z
device before before before 2026-01-31T12:00:00.5+01:00
device before phone
token sha256:00ff
token user#s` + "\r\n"))
	want := []Revocation{
		{User: "alice"},
		{User: "bob", Device: "phone"},
		{User: "carol", Before: at("2026-01-31T12:00:00Z")},
		{User: "before", Device: "before", Before: at("2026-01-31T12:00:00.5+01:00")},
		{User: "before", Device: "phone"},
		{ID: "sha256:00ff"},
		{ID: "user"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestWrongLineSaysWhichAndWhatWouldBeRight(t *testing.T) {
	for line, want := range map[string]string{
		"usr alice":         `line 2: "usr alice": want "user NAME"`,
		"user":              `want "user NAME"`,
		"user a b":          `want "user NAME"`,
		"user alice before": `want "user NAME"`,
		"device alice":      `"device USER DEVICE"`,
		"device alice before 2026-01-31T12:00:00Z": `"device USER DEVICE"`,
		"token":                       `or "token ID"`,
		"token a before 2026-01-31":   `or "token ID"`,
		"user alice before yesterday": `"yesterday" is not a time, want one such as 2026-01-31T12:00:00Z`,
		"user al/ice":                 "user",
		"device alice ph/one":         "device",
		"token eyJh.eyJz.c2ln":        "it is a token itself, want its id",
	} {
		_, err := ParseRevocations([]byte("user bob\n" + line + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestRevocationsSayWhichTokensCountNoMore(t *testing.T) {
	noon := at("2026-01-31T12:00:00Z")
	list, err := ParseRevocations([]byte(`user gone
device alice phone
user bob before 2026-01-31T12:00:00Z
user bob before 2026-01-30T12:00:00Z
device carol pad before 2026-01-31T12:00:00Z
user dave before 2026-01-31T12:00:00Z
user dave
token mine`))
	if err != nil {
		t.Fatal(err)
	}
	v := newRevoked(1, list)
	for _, test := range []struct {
		user, device, id string
		issued           time.Time
		want             bool
	}{
		{"gone", "phone", "", noon, true},
		{"gone", "pad", "", noon.AddDate(1, 0, 0), true},
		{"alice", "phone", "", noon, true},
		{"alice", "pad", "", noon, false},
		{"alice", "pad", "mine", noon, true},
		{"alice", "pad", "yours", noon, false},
		{"bob", "phone", "", noon.Add(-time.Second), true},
		{"bob", "phone", "", noon, false},
		{"bob", "phone", "", time.Time{}, true},
		{"carol", "pad", "", noon.Add(-time.Second), true},
		{"carol", "pad", "", noon, false},
		{"carol", "pad", "", time.Time{}, true},
		{"carol", "phone", "", time.Time{}, false},
		{"dave", "phone", "", noon, true},
		{"erin", "phone", "", time.Time{}, false},
	} {
		id := Identity{User: events.User(test.user), Device: events.Device(test.device), ID: test.id, Issued: test.issued}
		if got := v.revoked(id); got != test.want {
			t.Errorf("%+v: %v, want %v", test, got, test.want)
		}
	}
}

// A list is a file of revocations, watched.
type list struct {
	*Revocations
	t *testing.T
}

func openList(t *testing.T, path string, must bool) list {
	t.Helper()
	r, err := WatchRevocations(path, must)
	if err != nil {
		t.Fatal(err)
	}
	return list{r, t}
}

// want reads the file and checks whether alice is revoked.
func (l list) want(reason string, revoked bool, wrong string) {
	l.t.Helper()
	if _, err := l.file.read(); (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
		l.t.Errorf("%s: %v, want %q", reason, err, wrong)
	}
	if got := l.Revoked(Identity{User: "alice", Device: "phone", Issued: now}); got != revoked {
		l.t.Errorf("%s: revoked is %v, want %v", reason, got, revoked)
	}
}

func TestRevocationsFollowTheirFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	l := openList(t, path, false)
	l.want("there is no file", false, "")
	before := l.Generation()
	if err := Revoke(path, Revocation{User: "alice"}, now); err != nil {
		t.Fatal(err)
	}
	l.want("added", true, "")
	if l.Generation() == before {
		t.Error("a change is no new generation")
	}
	before = l.Generation()
	if err := os.WriteFile(path, []byte("user bob\nusr alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.want("a wrong line", true, path+`, line 2: "usr alice"`)
	if err := Revoke(path, Revocation{User: "carol"}, now); err == nil || !strings.Contains(err.Error(), "mend the list first") {
		t.Errorf("added to a list that is wrong: %v", err)
	}
	os.Remove(path)
	l.want("the file is lost", true, "there is no such file")
	if l.Generation() != before {
		t.Error("a new generation, and nothing has changed")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.want("an empty file", false, "")
	if l.Path() != path {
		t.Errorf("path %s, want %s", l.Path(), path)
	}
}

func TestListThatHasToBeThereIsMissed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	if _, err := WatchRevocations(path, true); err == nil || !strings.Contains(err.Error(), path+": there is no such file") {
		t.Errorf("%v, want an error that names the file", err)
	}
}

func TestRevocationsAreAddedAsLinesOfTheirOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	if err := os.WriteFile(path, []byte("user zoe"), 0o600); err != nil { // without a line break
		t.Fatal(err)
	}
	done := make(chan error)
	const writers = 8
	for i := range writers {
		go func() {
			done <- Revoke(path, Revocation{User: "alice", Device: events.Device(fmt.Sprint("d", i)), Before: now.UTC()}, now)
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRevocations(data)
	if err != nil || len(got) != 1+writers || got[0].User != "zoe" || !got[writers].Before.Equal(now) {
		t.Errorf("%v, %v:\n%s", got, err, data)
	}
	for _, bad := range []Revocation{{}, {User: "a b"}, {User: "alice", Device: "a b"}, {ID: "a b"}} {
		if err := Revoke(path, bad, now); err == nil {
			t.Errorf("%+v was added", bad)
		}
	}
}

func FuzzRevocations(f *testing.F) {
	f.Add([]byte("user alice\ndevice bob phone before 2026-01-31T12:00:00Z # lost\ntoken sha256:00\n"))
	f.Add([]byte("user alice before 2026-01-31T12:00:00.123456789-07:30"))
	f.Add([]byte("usr"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseRevocations(data)
		if err != nil {
			return
		}
		var lines strings.Builder
		for _, r := range list {
			fmt.Fprintln(&lines, r)
		}
		again, err := ParseRevocations([]byte(lines.String()))
		if diff := cmp.Diff(list, again); diff != "" || err != nil {
			t.Errorf("%q, written as %q: %v\n%s", data, &lines, err, diff)
		}
	})
}
