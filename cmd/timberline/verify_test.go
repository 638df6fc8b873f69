package main

import (
	"testing"

	"timberline/projections"
)

func TestVerificationSaysWhatToDoNext(t *testing.T) {
	timeline, log := &found{In: projections.InTimelines}, &found{In: projections.InSource}
	file, version := &found{In: projections.InFiles}, &found{In: projections.InVersion}
	for _, test := range []struct {
		found    []*found
		repaired bool
		want     string
	}{
		{[]*found{timeline}, false, "1 difference is left; for timelines run timberline verify --repair"},
		{[]*found{timeline, timeline}, true, "2 differences are left; for what timelines lack after --repair run timberline rebuild"},
		{[]*found{log}, true, "1 difference is left; log and checkpoints come back from a backup only: docs/operations.md, Backup and restore"},
		{[]*found{log, file, timeline}, false, "3 differences are left; log and checkpoints come back from a backup only: docs/operations.md, Backup and restore"},
		{[]*found{version, timeline}, false, "2 differences are left; run the version of the program that wrote it: log and checkpoints may be whole"},
		{[]*found{version, log}, false, "2 differences are left; log and checkpoints come back from a backup only: docs/operations.md, Backup and restore"},
		{[]*found{file, timeline}, true, "2 differences are left; log and checkpoints can be read: restore a backup, or have all timelines made again on a copy of the folder: docs/operations.md, Damaged files"},
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
