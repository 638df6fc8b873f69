package main

import "testing"

func TestVerificationSaysWhatToDoNext(t *testing.T) {
	timeline, log := &found{Where: "timeline of bob, seqs 1 to 1", User: "bob"}, &found{Where: "journal j:1, record 6"}
	for _, test := range []struct {
		found    []*found
		repaired bool
		want     string
	}{
		{[]*found{timeline}, false, "1 difference is left; for timelines run timberline verify --repair"},
		{[]*found{timeline, timeline}, true, "2 differences are left; for what timelines lack after --repair run timberline rebuild"},
		{[]*found{log}, true, "1 difference is left; files, log and checkpoints come back from a backup only: docs/operations.md, Backup and restore"},
		{[]*found{log, timeline}, false, "2 differences are left; files, log and checkpoints come back from a backup only: docs/operations.md, Backup and restore; for timelines run timberline verify --repair"},
	} {
		var d differences
		for _, f := range test.found {
			d.add(f)
		}
		if err := d.err(test.repaired); err == nil || err.Error() != test.want {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	if err := new(differences).err(true); err != nil {
		t.Error(err)
	}
}

func TestOneIsSingular(t *testing.T) {
	v := verified{Files: 1, Records: 1, Events: 2, Items: 1, Found: 1}
	if got, want := v.String(), "1 file, 1 record with 2 events, 1 timeline item: 1 difference, 0 repaired"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
