package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"timberline/client"
	"timberline/events"
	"timberline/projections"
	"timberline/store/dynamo"
)

// What "make replay-kills" makes more of than make test has time for.
var (
	workKills    = flag.Int("kills", 8, "how often work on a whole store is killed in its middle")
	workMessages = flag.Int("messages", 10_000, "how many messages the store has at first")
)

// Rebuild, switch, drop, verify, repair, trim, backup and restore are killed at a random
// moment, as the server that does the work, as the command that has asked for it, or as the
// command that does it alone; then they are run again to their end. What stands in the store
// afterwards is what would stand there if nothing had been killed, and meanwhile devices go on
// sending, by a server that is often away.
func TestWorkThatIsKilledComesToTheSameEnd(t *testing.T) {
	t.Parallel()
	s := newServerStory(t)
	s.seed = rand.Uint64N(1_000_000) + 1
	s.rate, s.lasts = 20, time.Hour
	// Devices that find no server rest for up to half a minute, and it is there for seconds. So
	// nothing may move for long; in the end, when it stays, all has to arrive.
	s.outage = 10 * time.Minute
	t.Logf("seed %d", s.seed)
	s.tell(t, func(ctx context.Context, r *soakRun) error {
		k := &killer{soakRun: r, t: t, random: r.draw(ofKills), server: r.edges[0].childServer, took: make(map[string]time.Duration), counts: make(map[string]int)}
		return k.run(ctx)
	})
}

// ofKills are the draws of kills.
const ofKills = 1 << 33

// A killer does work on a server's store, and kills it.
type killer struct {
	*soakRun
	t      *testing.T
	random *rand.Rand
	server *childServer
	now    look // at the store, before the work
	took   map[string]time.Duration
	counts map[string]int
	trims  int
	copies int
}

// A task is work that is killed, and run again.
type task struct {
	name    string
	args    []string              // of the command, besides where the store is
	data    string                // another folder than the server's; empty: that one
	prepare func() error          // while no server runs
	killed  func() error          // is what it leaves, killed, as it should be? nil: nothing is to be said of it
	check   func(now *look) error // is the store as it should be, besides that all timelines are?
}

// A way is how work is killed.
type way string

const (
	theServer  way = "the server"       // that does the work
	theCommand way = "the command"      // that has asked a server for it
	alone      way = "the lone command" // which does the work, as no server runs
)

func (k *killer) run(ctx context.Context) error {
	if err := k.server.end(syscall.SIGTERM); err != nil {
		return err
	}
	if err := fillOld(ctx, storePath(k.server.data), *workMessages); err != nil {
		return err
	}
	var err error
	if k.now, err = lookAt(ctx, k.server.data); err != nil {
		return err
	}
	tasks := []func(context.Context) (task, error){k.rebuild, k.switchBack, k.repair, k.trim, k.backup, k.drop, k.verify, k.restore}
	ways := []way{theServer, theCommand, alone}
	for n := 0; k.counts["kills"] < *workKills; n++ {
		if err := k.once(ctx, tasks[n%len(tasks)], ways[(n%len(tasks)+n/len(tasks))%len(ways)]); err != nil {
			return err
		}
	}
	k.t.Logf("%d kills: %v; %d journals were trimmed", k.counts["kills"], k.counts, k.now.gone)
	return k.server.start(ctx)
}

// once has a task done, killed once in its middle; what comes to its end before is done again.
func (k *killer) once(ctx context.Context, next func(context.Context) (task, error), how way) error {
	for {
		x, err := next(ctx)
		if err != nil {
			return err
		}
		if x.data != "" {
			how = alone
		}
		done, err := k.attempt(ctx, &x, how)
		if err != nil {
			return fmt.Errorf("%s, by %s: %w", x.name, how, err)
		}
		if done {
			return nil
		}
	}
}

// attempt has a task done, and reports whether it was killed in its middle. No server runs
// before and after.
func (k *killer) attempt(ctx context.Context, x *task, how way) (killed bool, err error) {
	if x.prepare != nil {
		if err := x.prepare(); err != nil {
			return false, err
		}
	}
	serve := func() error {
		if how == alone {
			return nil
		}
		return k.server.start(ctx)
	}
	if err := serve(); err != nil {
		return false, err
	}
	first := k.start(x)
	if took, known := k.took[x.name]; known {
		time.Sleep(time.Duration(k.random.Int64N(int64(took))))
		if killed, err = k.kill(ctx, first, how); err != nil {
			return false, err
		}
	} else if err := first.wait(exitOK); err != nil {
		return false, err
	}
	if !killed {
		k.took[x.name] = first.took
	} else {
		k.t.Logf("%s, by %s: killed after %v of some %v", x.name, how, first.took, k.took[x.name])
		k.counts["kills"]++
		k.counts[x.name+", "+string(how)]++
		if how == theServer {
			if err := k.server.start(ctx); err != nil {
				return false, err
			}
		}
		if x.killed != nil {
			if err := x.killed(); err != nil {
				return false, err
			}
		}
		again := k.start(x)
		if err := again.wait(exitOK); err != nil {
			return false, fmt.Errorf("again: %w", err)
		}
		k.took[x.name] = max(k.took[x.name], again.took)
	}
	if verified, err := k.output("verify", "--data", k.server.data); err != nil || !strings.Contains(verified, "no difference") {
		return false, fmt.Errorf("verify says %s: %w", verified, err)
	}
	if how != alone {
		if err := k.server.end(syscall.SIGTERM); err != nil {
			return false, err
		}
	}
	return killed, k.compare(ctx, x)
}

// compare holds the store against what it was before.
func (k *killer) compare(ctx context.Context, x *task) error {
	now, err := lookAt(ctx, k.server.data)
	if err != nil {
		return err
	}
	if err := now.follows(&k.now); err != nil {
		return err
	}
	if x.check != nil {
		if err := x.check(&now); err != nil {
			return err
		}
	}
	k.now = now
	return nil
}

// A job is a command that runs.
type job struct {
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
	began       time.Time
	took        time.Duration
	ended       chan struct{}
}

func (k *killer) start(x *task) *job {
	j := &job{began: time.Now(), ended: make(chan struct{})}
	data := x.data
	if data == "" {
		data = k.server.data
	}
	words := append([]string(nil), x.args...)
	if i := 1; words[0] == "migrate" || words[0] == "backup" { // words come last
		words = append(append(words[:i:i], "--data", data), words[i:]...)
	} else {
		words = append(words, "--data", data)
	}
	j.cmd = exec.Command(binary, words...)
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.stderr
	endsWithUs(j.cmd, syscall.SIGKILL)
	if err := j.cmd.Start(); err != nil {
		k.t.Error(err)
	}
	go func() {
		j.cmd.Wait()
		j.took = time.Since(j.began)
		close(j.ended)
	}()
	return j
}

// wait waits for the end of the command, and what it exits with.
func (j *job) wait(status int) error {
	<-j.ended
	if got := j.cmd.ProcessState.ExitCode(); got != status {
		return fmt.Errorf("%q exits with %d, want %d\n%s%s", j.cmd.Args, got, status, &j.out, &j.stderr)
	}
	return nil
}

func (k *killer) output(args ...string) (string, error) {
	j := k.start(&task{args: args[:1], data: args[2]})
	err := j.wait(exitOK)
	return j.out.String(), err
}

// kill kills a command, or the server that works for it, and reports whether that was in the
// middle of it.
func (k *killer) kill(ctx context.Context, j *job, how way) (bool, error) {
	if how != theServer {
		j.cmd.Process.Signal(syscall.SIGKILL)
		<-j.ended
		if j.cmd.ProcessState.Exited() {
			return false, j.wait(exitOK)
		}
		if how == theCommand {
			return true, k.noWork(ctx)
		}
		return true, nil
	}
	if err := k.server.end(syscall.SIGKILL); err != nil {
		return false, err
	}
	<-j.ended
	if j.cmd.ProcessState.ExitCode() == exitOK { // it was done, or began when there was no server any more
		return false, k.server.start(ctx)
	}
	if !strings.Contains(j.stderr.String(), "run the command again") {
		return false, fmt.Errorf("a command whose server was killed says %q", j.stderr.String())
	}
	return true, j.wait(exitFailed)
}

// noWork waits until the server does nothing any more for a command that is gone.
func (k *killer) noWork(ctx context.Context) error {
	late := time.Now().Add(5 * time.Second)
	for {
		answer, err := http.Get("http://" + k.server.monitor + "/debug/pprof/goroutine?debug=2")
		if err != nil {
			return err
		}
		all, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		at := bytes.Index(all, []byte("Work).do("))
		if at < 0 {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("the server still works, for nobody:\n%s", all[max(0, at-2000):min(len(all), at+500)])
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// rebuild makes another version, in about a second.
func (k *killer) rebuild(context.Context) (task, error) {
	next := k.now.versions.Next
	return task{name: "rebuild", args: []string{"rebuild", "--rate", fmt.Sprint(*workMessages)}, check: func(now *look) error {
		if now.versions.Live != next { // it goes on with the version that it has begun, also behind the switch
			return fmt.Errorf("version %d is live, want %d", now.versions.Live, next)
		}
		return nil
	}}, nil
}

// switchBack goes back to the version before, or forward to it: little is to be done but the switch.
func (k *killer) switchBack(ctx context.Context) (task, error) {
	if err := k.another(ctx); err != nil {
		return task{}, err
	}
	v := k.now.versions
	way := "--back"
	if v.Before > v.Live {
		way = "--forward"
	}
	return task{name: "switch", args: []string{"rebuild", way}, check: func(now *look) error {
		if now.versions.Live != v.Before {
			return fmt.Errorf("version %d is live, want %d", now.versions.Live, v.Before)
		}
		return nil
	}}, nil
}

// another sees to it that a version was read before the one that is.
func (k *killer) another(ctx context.Context) error {
	if v := k.now.versions; v.Since > 0 && !v.Dropped[v.Before] {
		return nil
	}
	if err := k.start(&task{args: []string{"rebuild"}}).wait(exitOK); err != nil {
		return err
	}
	return k.compare(ctx, &task{})
}

// drop gives up the version that was read before.
func (k *killer) drop(ctx context.Context) (task, error) {
	if err := k.another(ctx); err != nil {
		return task{}, err
	}
	v := k.now.versions
	return task{name: "drop", args: []string{"rebuild", "--drop", fmt.Sprint(v.Before)}, check: func(now *look) error {
		if !now.versions.Dropped[v.Before] || now.items[v.Before] > 0 || now.versions.Live != v.Live {
			return fmt.Errorf("version %d was dropped: %+v, with items of versions: %v", v.Before, now.versions, now.items)
		}
		return nil
	}}, nil
}

func (k *killer) verify(context.Context) (task, error) {
	return task{name: "verify", args: []string{"verify"}}, nil
}

// repair has something to repair in half of all old timelines.
func (k *killer) repair(context.Context) (task, error) {
	return task{name: "repair", args: []string{"verify", "--repair"}, prepare: func() error {
		return withStore(k.server.data, func(s wholeStore) error { return damage(k.t.Context(), s, &k.now, k.random) })
	}}, nil
}

// trim leaves less of the old timelines each time, and nothing is so old in the others.
func (k *killer) trim(context.Context) (task, error) {
	k.trims++
	keep := uint64(perUser * float64(*workMessages) / 40_000)
	for range k.trims {
		keep -= keep / 8
	}
	before := k.now
	return task{name: "trim", args: []string{"trim", "--older-than", "500h", "--keep", fmt.Sprint(keep)}, check: func(now *look) error {
		for u, was := range before.timelines {
			if want := was.trimmed(u, keep); now.timelines[u].first != want {
				return fmt.Errorf("the timeline of %s begins at %d, want %d", u, now.timelines[u].first, want)
			}
		}
		return nil
	}}, nil
}

// copied names a folder for another copy.
func (k *killer) copied() string {
	k.copies++
	return filepath.Join(k.folder, fmt.Sprint("copy", k.copies))
}

// backup makes a copy, which is whole, or none.
func (k *killer) backup(context.Context) (task, error) {
	folder := k.copied()
	before := k.now
	x := task{name: "backup", args: []string{"backup", folder}}
	x.killed = func() error {
		if _, err := os.Stat(storePath(folder)); err == nil {
			k.counts["backups killed when they were whole"]++
			if err := before.heldBy(k, folder); err != nil {
				return err
			}
			folder = k.copied()
			x.args[1] = folder
			return nil
		}
		if _, err := os.Stat(folder); err != nil {
			k.counts["backups killed before they began"]++
			return nil
		}
		for _, args := range [][]string{{"verify"}, {"migrate", "restored"}, {"serve", "--listen", "127.0.0.1:0"}} {
			j := k.start(&task{args: args, data: folder})
			if err := j.wait(exitFailed); err != nil {
				return fmt.Errorf("half a backup: %w", err)
			}
			if said := j.stderr.String(); !strings.Contains(said, "there is no store in "+folder) && !strings.Contains(said, "backup") {
				return fmt.Errorf("of half a backup %s says %q", args[0], said)
			}
		}
		return nil
	}
	x.check = func(*look) error { return before.heldBy(k, folder) }
	return x, nil
}

// heldBy says whether a copy, once it is restored, has all that stood in the store, and
// whether a device that comes to it with a later cursor gets all of that.
func (l *look) heldBy(k *killer, folder string) error {
	if verified, err := k.output("verify", "--data", folder); err != nil || !strings.Contains(verified, "no difference") {
		return fmt.Errorf("of the copy, before it is restored, verify says %s: %w", verified, err)
	}
	if status, err := k.output("rebuild", "--status", "--data", folder); err == nil {
		return fmt.Errorf("a copy is worked on before it is restored: %s", status)
	}
	restored := k.start(&task{args: []string{"migrate", "restored"}, data: folder})
	if err := restored.wait(exitOK); err != nil {
		return err
	}
	return l.isRestored(k, folder)
}

// isRestored says so of a copy that is.
func (l *look) isRestored(k *killer, folder string) error {
	ctx := k.t.Context()
	if verified, err := k.output("verify", "--data", folder); err != nil || !strings.Contains(verified, "no difference") {
		return fmt.Errorf("of the copy verify says %s: %w", verified, err)
	}
	has, err := lookAt(ctx, folder)
	if err != nil {
		return err
	}
	if has.meta.Store == l.meta.Store {
		return errors.New("the copy has the id of its original")
	}
	if err := has.follows(l); err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	if err := k.comesBack(ctx, folder, &has); err != nil {
		return err
	}
	return os.RemoveAll(folder)
}

// comesBack has a device come to a copy with a cursor beyond all that the copy has.
func (k *killer) comesBack(ctx context.Context, folder string, has *look) (err error) {
	copied := &childServer{child: child{name: "the restored server", log: folder + ".log"}, role: "serve", data: folder, keys: folder}
	if err := copied.begin(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.end(syscall.SIGTERM)) }()
	user := k.messages[0].From
	cfg := deviceConfig{server: copied.addr.String(), serverKey: copied.key, data: folder, as: string(user), device: "phone", codec: "protobuf"}
	o, _, err := cfg.options("")
	if err != nil {
		return err
	}
	saved := client.NewMemory()
	if err := saved.Save([]client.Change{{Cursor: &client.Cursor{Store: k.now.meta.Store, Seq: 1 << 40}}}); err != nil {
		return err
	}
	o.Store = saved
	var was standing
	o.OnReset = func(events.StoreID) { was = standing{} }
	o.OnMessage = func(m client.Message) error {
		was.add(m.Seq, m.Event.Encode())
		return nil
	}
	c, err := client.Dial(cfg.server, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Sync(ctx); err != nil {
		return err
	}
	if want := has.timelines[user]; !want.same(&was) {
		return fmt.Errorf("a device of %s was shown %d entries from %d on, the copy has %d from %d on", user, len(was.entries), was.first, len(want.entries), want.first)
	}
	return nil
}

// restore makes a store whole that was copied by hand.
func (k *killer) restore(context.Context) (task, error) {
	folder := k.copied()
	before := k.now
	return task{name: "restore", args: []string{"migrate", "--copied", "restored"}, data: folder,
		prepare: func() error { return os.CopyFS(storePath(folder), os.DirFS(storePath(k.server.data))) },
		killed: func() error {
			j := k.start(&task{args: []string{"verify"}, data: folder})
			if j.wait(exitOK) == nil {
				k.counts["restores killed before they began or when they were done"]++
				return nil
			}
			if !strings.Contains(j.stderr.String(), "migrate restored") {
				return fmt.Errorf("of a store that is half restored verify says %q", j.stderr.String())
			}
			return nil
		},
		check: func(*look) error { return before.isRestored(k, folder) },
	}, nil
}

// The same on tables, where the commands do the work themselves. A restore first looks for
// 12 seconds whether anybody uses them: only "make replay-kills" has the time.
func TestWorkOnTablesThatIsKilledComesToTheSameEnd(t *testing.T) {
	t.Parallel()
	flags, o := migrateFlags(t)
	on := func(words ...string) *exec.Cmd {
		cmd := exec.Command(binary, append(words, flags...)...)
		endsWithUs(cmd, syscall.SIGKILL)
		return cmd
	}
	to := func(words ...string) string {
		t.Helper()
		said, err := on(words...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", words, err, said)
		}
		return string(said)
	}
	to("migrate", "up", "--shards", "2")
	s, err := dynamo.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fillTables(t, s, 60)
	reader := projections.NewReader(s, s.Meta())
	read := func() (all [2]standing) {
		t.Helper()
		for i, u := range []events.User{"alice", "bob"} {
			var err error
			if all[i], err = readStanding(t.Context(), reader, u); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	draw := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	kills := make(map[string]int)
	keep := 118
	for round := range max(1, *workKills/8) {
		type job struct {
			name   string
			words  []string
			before func()
			from   time.Duration // of the moments in which it is killed
		}
		jobs := []job{
			{name: "rebuild", words: []string{"rebuild"}},
			{name: "repair", words: []string{"verify", "--repair"}, before: func() {
				v, err := projections.ReadVersions(t.Context(), s, projections.ShardOf(events.User("bob").Slot(), 2))
				if err == nil {
					err = s.DeleteItems(t.Context(), projections.Timeline{Version: v.Live, User: "bob"}, 117)
				}
				if err != nil {
					t.Fatal(err)
				}
			}},
			{name: "trim", words: []string{"trim", "--keep", fmt.Sprint(keep)}},
		}
		keep -= 9
		if round%2 == 1 {
			jobs = append(jobs, job{name: "restore", words: []string{"migrate", "restored", "--stopped"}, from: lookAtLivesFor})
		}
		for _, j := range jobs {
			was := read()
			for killed := false; !killed; {
				if j.before != nil {
					j.before()
				}
				cmd := on(j.words...)
				var said bytes.Buffer
				cmd.Stdout, cmd.Stderr = &said, &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(j.from+time.Duration(draw.Int64N(int64(700*time.Millisecond))), func() { cmd.Process.Kill() })
				err := cmd.Wait()
				if killed = !cmd.ProcessState.Exited(); !killed && err != nil {
					t.Fatalf("%s: %v\n%s", j.name, err, &said)
				}
			}
			kills[j.name]++
			to(j.words...)
			if verified := to("verify"); !strings.Contains(verified, "no difference") {
				t.Fatalf("after %s: %s", j.name, verified)
			}
			for i, now := range read() {
				if err := now.follows(&was[i]); err != nil || now.head() != was[i].head() || j.name != "trim" && now.first != was[i].first {
					t.Fatalf("after %s a timeline has seqs %d to %d, and had %d to %d: %v", j.name, now.first, now.head(), was[i].first, was[i].head(), err)
				}
			}
		}
	}
	t.Logf("kills: %v", kills)
}
