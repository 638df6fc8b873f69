package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// removeMarker takes away what an interrupted copy of a folder lacks.
func removeMarker(t *testing.T, data string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(storePath(data), "marker.manifest.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%q, %v", names, err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
}

// names returns what is in a store's folder.
func names(t *testing.T, data string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(storePath(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// readers are commands that work on a store that there is.
func readers(t *testing.T, data string) [][]string {
	return [][]string{
		{"verify", "--data", data}, {"log", "--data", data}, {"rebuild", "--data", data}, {"trim", "--keep", "5", "--data", data},
		{"trace", "--data", data, "0000000000000000000000000A"}, {"backup", "--data", data, filepath.Join(t.TempDir(), "copy")},
		{"migrate", "restored", "--copied", "--data", data},
	}
}

// A copy that was interrupted lacks an empty file, and what is no store all of it: nobody
// makes a new store of either.
func TestFolderThatIsNoWholeStoreIsLeftAsItIs(t *testing.T) {
	k := keep(t)
	removeMarker(t, k.data)
	junk := t.TempDir()
	if err := os.Mkdir(storePath(junk), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(storePath(junk), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{k.data, junk} {
		before := names(t, data)
		for _, args := range append(readers(t, data), []string{"serve", "--listen", "127.0.0.1:0", "--data", data}, []string{"migrate", "up", "--data", data}, []string{"migrate", "plan", "--data", data}) {
			tl(t, args...).want(t, exitFailed, "", "no whole store: the marker of its manifest is missing; of a copy that was interrupted, copy it again")
		}
		if after := names(t, data); !slices.Equal(after, before) {
			t.Errorf("there was %q, now there is %q", before, after)
		}
	}
}

func TestOnlyServeAndMigrateMakeAStore(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(storePath(data), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range readers(t, data) {
		tl(t, args...).want(t, exitFailed, "", "there is no store in "+data)
	}
	if left := names(t, data); len(left) > 0 {
		t.Errorf("%q was made", left)
	}
	tl(t, "migrate", "up", "--data", data).want(t, exitOK, "applied: 2", "")
	tl(t, "verify", "--data", data).want(t, exitOK, "no difference", "")
}

// Keys without a store are those of a server whose disk is not mounted, perhaps.
func TestServeTellsOfAStoreThatItHasMade(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	serve := func(when string, isNew, warns bool) {
		t.Helper()
		p := startProcess(t, "--data", data, "--listen", "127.0.0.1:0")
		if err := p.end(os.Interrupt); err != nil { // all that it says is there then
			t.Fatal(err)
		}
		if said := strings.Contains(p.stderr.String(), "the store is new, but there were keys"); p.NewStore != isNew || said != warns {
			t.Errorf("%s: new %v, warned %v", when, p.NewStore, said)
		}
	}
	serve("the first start", true, false)
	serve("the second start", false, false)
	if err := os.Rename(storePath(data), filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	serve("without its store", true, true)
}

// What an error says to type works on the folder that the error is about; and a store that
// needs no restore is not given another id without being asked for.
func TestRestoreNamesItsFolderAndAsks(t *testing.T) {
	k := keep(t)
	copied := filepath.Join(t.TempDir(), "of tuesday")
	tl(t, "backup", "--data", k.data, copied).want(t, exitOK, "run timberline migrate restored --data '"+copied+"'", "")
	tl(t, "verify", "--data", copied).want(t, exitOK, "no difference", "")
	tl(t, "log", "--data", copied).want(t, exitOK, "message 9", "")
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"rebuild"}, {"trim", "--keep", "1"}, {"backup"}} {
		args = append(args, "--data", copied)
		if args[0] == "backup" {
			args = append(args, copied+"2")
		}
		tl(t, args...).want(t, exitFailed, "", "run `timberline migrate restored --data '"+copied+"'` until it has ended")
	}
	tl(t, "migrate", "restored", "--data", k.data).want(t, exitUsage, "", "--copied is missing: the store in "+k.data+" is whole")
	tl(t, "migrate", "restored", "--data", copied).want(t, exitOK, "0 items put", "it is a copy of one moment")
	tl(t, "migrate", "restored", "--data", copied).want(t, exitUsage, "", "--copied is missing")
	tl(t, "migrate", "restored", "--data", copied, "--copied").want(t, exitOK, "the store is whole", "the timelines are empty")
	tl(t, "migrate", "up", "--data", copied, "--copied").want(t, exitUsage, "", "--copied is of no use")
}

// What is made above a folder that is not mounted is lost, and so is what is in the folder
// that the backup is of.
func TestBackupGoesWhereItIsOfUse(t *testing.T) {
	k := keep(t)
	none := filepath.Join(t.TempDir(), "none")
	tl(t, "backup", "--data", k.data, filepath.Join(none, "x", "y")).want(t, exitFailed, "", "there is no folder "+filepath.Join(none, "x")+": make it, or see whether its disk is mounted")
	if exists(none) {
		t.Error("a folder was made")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(k.data, link); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{k.data, filepath.Join(k.data, "b"), filepath.Join(storePath(k.data), "b"), filepath.Join(link, "b")} {
		tl(t, "backup", "--data", k.data, in).want(t, exitFailed, "", "is in the data folder "+k.data)
	}
	beside := k.data + "-copy"
	tl(t, "backup", "--data", k.data, beside).want(t, exitOK, beside+" is a copy", "")
}

// A rebuild beside a damaged file would say that all is well, and the engine would end the
// next command that it compacts in.
func TestRebuildBeginsNothingWhereAFileIsDamaged(t *testing.T) {
	data := t.TempDir()
	filled(t, data)
	table := damagedAt(t, data, 0.5)
	for _, more := range [][]string{{}, {"--shard", "0"}} {
		tl(t, append([]string{"rebuild", "--data", data}, more...)...).want(t, exitFailed, "", "file "+table+": stored data is damaged")
	}
	o := tl(t, "rebuild", "--data", data).want(t, exitFailed, "", "so none was begun (timberline verify says more): check the disk, and restore the folder from a copy")
	if strings.Contains(o.out, "is read") {
		t.Errorf("it says %q", o.out)
	}
	tl(t, "rebuild", "--status", "--data", data).want(t, exitOK, "version 0 is read; the next rebuild makes 1", "")
}

// filled makes a store with 3,000 messages, all in tables.
func filled(t *testing.T, data string) {
	t.Helper()
	if err := fillOld(t.Context(), storePath(data), 3000); err != nil {
		t.Fatal(err)
	}
	tl(t, "verify", "--data", data).want(t, exitOK, "no difference", "") // and what was in memory is in tables
}

// damagedAt flips a bit of the newest table, so far from its beginning, and returns its name.
func damagedAt(t *testing.T, data string, part float64) string {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(storePath(data), "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%q, %v", tables, err)
	}
	table := tables[len(tables)-1]
	bytes, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	bytes[int(part*float64(len(bytes)))] ^= 1
	if err := os.Remove(table); err != nil { // a backup may share the file
		t.Fatal(err)
	}
	if err := os.WriteFile(table, bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(table)
}

// A restore takes nothing from a store of which the log is damaged, and makes one whole of
// which only the timelines are.
func TestRestoreLooksBeforeItTakesAway(t *testing.T) {
	data := t.TempDir()
	filled(t, data)
	for _, copied := range []bool{false, true} {
		for _, part := range []float64{0.05, 0.8} {
			folder := filepath.Join(t.TempDir(), "copy")
			flags := []string{"--data", folder}
			if tl(t, "backup", "--data", data, folder).want(t, exitOK, "timberline verify --data "+folder+" reads all of it", ""); copied {
				flags = append(flags, "--copied")
			}
			table := damagedAt(t, folder, part)
			before := tl(t, "log", "--data", folder)
			restore := tl(t, append([]string{"migrate", "restored"}, flags...)...)
			after := tl(t, "log", "--data", folder)
			if before.out != after.out || before.status != after.status {
				t.Errorf("at %v: of the log there are %d bytes, status %d, and were %d, status %d", part, len(after.out), after.status, len(before.out), before.status)
			}
			verify := tl(t, "verify", "--data", folder)
			switch {
			case part < 0.5:
				restore.want(t, exitFailed, "", "what timelines are made from is damaged, so nothing was changed: take another copy. `timberline log --data "+folder+"` prints")
				verify.want(t, exitFailed, "", "log and checkpoints come back from a backup only")
			case !copied:
				restore.want(t, exitFailed, "", "file "+table+": stored data is damaged")
				restore.want(t, exitFailed, "", "or have them made again from the log by --copied")
				verify.want(t, exitFailed, "", "or have all timelines made again on a copy of the folder")
			default:
				restore.want(t, exitOK, "the store is whole", "the timelines are made again")
				verify.want(t, exitOK, "no difference", "")
			}
		}
	}
}
